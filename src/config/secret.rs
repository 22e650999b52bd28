//! Secrets of the configuration: readable on purpose, never by accident, and not necessarily in the file itself.
//!
//! Wherever the table of keys says "never shown", `{"file": "/run/secrets/key"}` stands for what is in that file, without
//! the line's end, and `{"env": "NAME"}` for the value of that variable of the environment.

use std::{env, fmt, fs};

use super::tree::{Node, Value};

/// The longest secret in a file, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A string that `Debug` doesn't show and `Display` doesn't have.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the driver that has to present it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The secret that an object of the file points to.
///
/// # Errors
/// What is wrong, without anything of the secret.
pub(super) fn pointed_to(members: &[(String, Node)]) -> Result<String, String> {
    let secret = match members {
        [
            (
                key,
                Node {
                    value: Value::Str(path),
                    ..
                },
            ),
        ] if key == "file" => from_file(path)?,
        [
            (
                key,
                Node {
                    value: Value::Str(name),
                    ..
                },
            ),
        ] if key == "env" => match env::var(name) {
            Ok(value) => value,
            Err(env::VarError::NotPresent) => return Err(format!("the environment has no variable {name}")),
            Err(env::VarError::NotUnicode(_)) => return Err(format!("the variable {name} is no text")),
        },
        _ => {
            return Err(
                "expected a string, {\"file\": PATH} or {\"env\": NAME}, got another object".to_owned(),
            );
        }
    };
    match secret.is_empty() {
        true => Err("what it points to is empty".to_owned()),
        false => Ok(secret),
    }
}

fn from_file(path: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("the file {path} can't be read: {error}");
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_SECRET_BYTES {
        return Err(format!("the file {path} has more than {MAX_SECRET_BYTES} bytes"));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<String, String> {
        let node = Node {
            value: Value::Str(value.to_owned()),
            line: 1,
        };
        pointed_to(&[(key.to_owned(), node)])
    }

    #[test]
    fn a_secret_comes_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(read("file", path.to_str().unwrap()).unwrap(), "hunter2");
        fs::write(&path, "\n").unwrap();
        assert_eq!(
            read("file", path.to_str().unwrap()).unwrap_err(),
            "what it points to is empty"
        );
        assert!(
            read("file", "/no/such/file")
                .unwrap_err()
                .starts_with("the file /no/such/file can't be read")
        );
        assert_eq!(read("env", "PATH").ok(), env::var("PATH").ok());
        assert!(
            read("env", "PORTOLAN_NO_SUCH_VARIABLE")
                .unwrap_err()
                .ends_with("no variable PORTOLAN_NO_SUCH_VARIABLE")
        );
        assert!(read("url", "x").is_err() && pointed_to(&[]).is_err());
    }
}
