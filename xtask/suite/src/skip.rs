//! Skipped cases.

/// The reason why a case cannot run here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

/// Returns the error with which a case reports that it cannot run here.
pub fn skip(reason: impl Into<String>) -> anyhow::Error {
    Skip(reason.into()).into()
}
