//! What requests are answered with, and how they are refused.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokio::sync::Semaphore;
use wgquant::calibrate::ChatTemplate;
use wgquant::model::ModelConfig;
use wgquant::serve::Job;

use super::worker::Status;

/// What all requests share.
pub(super) struct Api {
    pub(super) model: String,
    pub(super) config: ModelConfig,
    pub(super) dir: PathBuf,
    pub(super) tokenizer: &'static Tokenizer,
    pub(super) template: Option<ChatTemplate>,
    pub(super) context: usize,
    /// Of a text that may fit, where that is known.
    pub(super) most_bytes: Option<usize>,
    /// For who reads a request, of whom there may be a few: tokenizers take much memory.
    pub(super) readers: Semaphore,
    pub(super) status: Arc<Status>,
    pub(super) jobs: flume::Sender<Job>,
    pub(super) key: Option<String>,
}

impl Api {
    /// Refuses where the model cannot answer.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let lost = self.status.lost().is_some() || self.jobs.is_disconnected();
        if lost { Err(Refused::lost(&self.status)) } else { Ok(()) }
    }
}

/// Why a request is not answered.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    status: StatusCode,
    /// The field at fault, if it is one.
    param: Option<String>,
    message: String,
}

impl Refused {
    /// A field says what cannot be done.
    pub(super) fn field(name: &str, message: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::BAD_REQUEST, param: Some(name.to_owned()), message: format!("`{name}`: {message}") }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, param: None, message: message.into() }
    }

    pub(super) fn with(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, param: None, message: message.into() }
    }

    /// The model cannot go on.
    pub(super) fn lost(status: &Status) -> Self {
        let why = status.lost().unwrap_or_else(|| "the model ended".to_owned());
        Self::with(StatusCode::SERVICE_UNAVAILABLE, format!("{why}; try again later"))
    }

    /// As OpenAI's errors are.
    pub(super) fn json(&self) -> Value {
        let kind = if self.status.is_client_error() { "invalid_request_error" } else { "server_error" };
        json!({ "error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.status.as_u16(),
        } })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let answer = (self.status, axum::Json(self.json()));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            ([(RETRY_AFTER, "5")], answer).into_response()
        } else {
            answer.into_response()
        }
    }
}
