//! How the binary fails: a stable code, a sentence, and where there is one, the way out. Never a secret.

use std::fmt;

/// A failure that ends a command. Printed as a sentence, or as JSON with `--json`.
#[derive(Debug)]
pub struct Failure {
    code: &'static str,
    text: String,
    hint: Option<String>,
    key: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure with a stable code (docs/errors.md) and a sentence.
    pub fn new(code: &'static str, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), hint: None, key: None, source: None }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Failure {
        self.source = Some(Box::new(source));
        self
    }

    /// Says where it happened.
    #[must_use]
    pub fn within(mut self, place: &str) -> Failure {
        self.text = format!("{place}: {}", self.text);
        self
    }

    /// Names the key of the change that was asked for: with it the same change can be asked for again, and is done once.
    #[must_use]
    pub fn of_change(mut self, key: &str) -> Failure {
        self.key = Some(key.to_owned());
        self
    }

    /// The key of the change that was asked for.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Whether whoever read the output has stopped reading, as `head` does when it has enough.
    pub fn is_pipe_closed(&self) -> bool {
        let source = self.source.as_deref().and_then(|source| source.downcast_ref::<std::io::Error>());
        self.code == "output_failed" && source.is_some_and(|fault| fault.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// As one JSON object: `code`, `message`, `hint`, and of a change `idempotency_key`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::json!({ "code": self.code, "message": self.sentence(), "hint": self.hint });
        if let Some(key) = &self.key {
            value["idempotency_key"] = serde_json::json!(key);
        }
        value
    }

    /// Whether asking again with the key can never succeed: it did another change, or it is too old for anybody to know what it did.
    fn is_key_spent(&self) -> bool {
        matches!(self.code, "idempotency_mismatch" | "id_expired")
    }

    fn sentence(&self) -> String {
        let mut text = self.text.clone();
        let mut source = self.source.as_deref().map(|source| source as &dyn std::error::Error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error[{}]: {}", self.code, self.sentence())?;
        if let Some(hint) = &self.hint {
            write!(out, "\n  {hint}")?;
        }
        match &self.key {
            Some(key) if self.is_key_spent() => write!(out, "\n  {}", way_out_of_spent(self.code, key)),
            Some(key) => write!(out, "\n  to ask for the same change again: --key {key}"),
            None => Ok(()),
        }
    }
}

/// What is to be done where a key is spent. A change that is asked for under a new one is another change: so it is looked first.
fn way_out_of_spent(code: &str, key: &str) -> String {
    let mut text = format!(
        "this change can't be asked for with the key {key}: see what was done with it, 'florin event history {key}', \
         and where the change still has to be made, ask for it without --key"
    );
    if code == "id_expired" {
        text.push_str("; a key that was made just now is too old only where this machine's clock is behind, or ledger time ahead of it");
    }
    text
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_code_sentence_causes_and_way_out() {
        let cause = std::io::Error::other("disk is full");
        let failure = Failure::new("disk_full", "the journal can't be written").because(cause).hint("free some room");
        assert_eq!(
            failure.to_string(),
            "error[disk_full]: the journal can't be written: disk is full\n  free some room"
        );
        assert_eq!((&failure.to_json()["code"], failure.to_json().get("idempotency_key")), (&"disk_full".into(), None));
    }

    #[test]
    fn a_change_that_failed_names_its_key() {
        let failure = Failure::new("queue_full", "too many commands wait").hint("try again").of_change("0190");
        assert_eq!(
            failure.to_string(),
            "error[queue_full]: too many commands wait\n  try again\n  to ask for the same change again: --key 0190"
        );
        assert_eq!(failure.to_json()["idempotency_key"], "0190");
    }

    #[test]
    fn a_key_that_is_spent_is_shown_for_looking_and_not_for_asking_again() {
        for code in ["idempotency_mismatch", "id_expired"] {
            let failure = Failure::new(code, "refused").of_change("0190");
            let said = failure.to_string();
            assert!(!said.contains("--key 0190") && said.contains("'florin event history 0190'"), "{said}");
            assert!(said.contains("without --key"), "{said}");
            assert_eq!(said.contains("clock"), code == "id_expired", "{said}");
            assert_eq!(failure.to_json()["idempotency_key"], "0190");
        }
    }
}
