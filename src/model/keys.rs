//! Typed, range-checked access to the keys of `config.json`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// A configuration with its path. Functions take every name a key has had; the first is the current one.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    pub(super) v: &'a Value,
}

/// A key whose value this crate cannot use; [`Error::in_config`] adds the file.
pub(super) fn unsupported(key: &str, value: impl Into<String>) -> Error {
    Error::UnsupportedModel { path: PathBuf::new(), key: key.to_owned(), value: value.into() }
}

impl<'a> Keys<'a> {
    /// The value under any of `names`; null counts as absent. Two names with different values are refused, as no
    /// reader could know which was meant.
    pub(super) fn get(&self, names: &[&str]) -> Result<Option<&'a Value>> {
        let mut found: Option<(&str, &Value)> = None;
        for name in names {
            let Some(value) = self.v.get(*name).filter(|v| !v.is_null()) else { continue };
            match found {
                Some((other, first)) if first != value && first.as_f64() != value.as_f64() => {
                    return Err(unsupported(name, format!("{value}, but {other} is {first}; remove one of them")));
                }
                Some(_) => {}
                None => found = Some((name, value)),
            }
        }
        Ok(found.map(|(_, value)| value))
    }

    /// As [`Keys::get`], but one of the names must be there.
    pub(super) fn required(&self, names: &[&str]) -> Result<&'a Value> {
        self.get(names)?.ok_or_else(|| Error::bad(self.path, format!("has no `{}`", names.join("` or `"))))
    }

    /// A whole number in `range`.
    pub(super) fn size(&self, names: &[&str], range: RangeInclusive<usize>) -> Result<usize> {
        let value = self.required(names)?;
        let size = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
        size.ok_or_else(|| {
            unsupported(names[0], format!("{value}, not a whole number from {} to {}", range.start(), range.end()))
        })
    }

    /// As [`Keys::size`], with a default.
    pub(super) fn size_or(&self, names: &[&str], range: RangeInclusive<usize>, default: usize) -> Result<usize> {
        if self.get(names)?.is_none() { Ok(default) } else { self.size(names, range) }
    }

    /// A number in `range`, if there.
    pub(super) fn number(&self, names: &[&str], range: RangeInclusive<f32>) -> Result<Option<f32>> {
        let Some(value) = self.get(names)? else { return Ok(None) };
        let number = value.as_f64().map(|x| x as f32).filter(|x| range.contains(x));
        number.map(Some).ok_or_else(|| {
            unsupported(names[0], format!("{value}, not a number from {} to {:e}", range.start(), range.end()))
        })
    }

    /// A truth value, if there.
    pub(super) fn flag(&self, names: &[&str]) -> Result<Option<bool>> {
        let Some(value) = self.get(names)? else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| unsupported(names[0], format!("{value}, not true or false")))
    }

    /// Features that are supported only when off.
    pub(super) fn refuse_true(&self, names: &[&str]) -> Result<()> {
        for name in names {
            if self.flag(&[name])? == Some(true) {
                return Err(unsupported(name, "true; linear layers with a bias are not supported"));
            }
        }
        Ok(())
    }

    /// A word that must be one of `allowed`, if there.
    pub(super) fn only(&self, names: &[&str], allowed: &[&str]) -> Result<()> {
        match self.get(names)? {
            Some(value) if !value.as_str().is_some_and(|s| allowed.contains(&s)) => {
                Err(unsupported(names[0], format!("{value}; supported is {}", allowed.join(" or "))))
            }
            _ => Ok(()),
        }
    }

    /// A token id or a list of them.
    pub(super) fn tokens(&self, name: &str) -> Result<Vec<u32>> {
        let token = |v: &Value| {
            let id = v.as_u64().and_then(|n| u32::try_from(n).ok());
            id.ok_or_else(|| unsupported(name, format!("{v}, not a token id")))
        };
        match self.get(&[name])? {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(token).collect(),
            Some(one) => Ok(vec![token(one)?]),
        }
    }
}
