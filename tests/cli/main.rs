//! The program as its users meet it: help, results, exit codes and one-line messages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_models;
mod bad_use;
mod bench;
mod calibrate;
mod cards;
mod chat;
mod common;
mod demo;
mod documents;
#[cfg(unix)]
mod hub;
mod interrupted;
mod memory;
mod pages;
mod questions;
mod results;
mod rotations;
mod search;
mod serve;
mod sizes;
mod test_ops;
mod text;
mod verify;
