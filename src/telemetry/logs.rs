//! The log: text where a person reads it, JSON where a machine does.
//!
//! Deliberately absent: rotation (the file is opened for appending, so `logrotate` with `copytruncate` or a service
//! manager does it) and remote collectors.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::config::{Log, LogLevel, LogOutput};

/// The log can't be written as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file can't be opened.
    #[error("can't open the log file {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in this process logs already.
    #[error("the log was set up before")]
    Twice,
}

/// Logs from now on as `log` says.
///
/// # Errors
/// [`LogError`] when the file can't be opened, or on a second call.
pub fn start(log: &Log) -> Result<(), LogError> {
    match &log.output {
        LogOutput::Stdout => install(log.level, io::stdout().is_terminal(), io::stdout),
        LogOutput::Stderr => install(log.level, io::stderr().is_terminal(), io::stderr),
        LogOutput::File(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file: File = opened.map_err(|source| LogError::File {
                path: path.clone(),
                source,
            })?;
            install(log.level, false, Arc::new(file))
        }
    }
}

fn install<W>(level: LogLevel, is_terminal: bool, writer: W) -> Result<(), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(writer);
    let installed = match is_terminal {
        true => builder.with_target(false).try_init(),
        false => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    installed.map_err(|_| LogError::Twice)
}

/// Libraries speak up only when something deserves a look, unless everything is asked for.
fn filter(level: LogLevel) -> EnvFilter {
    match level {
        LogLevel::Off | LogLevel::Error | LogLevel::Warn | LogLevel::Trace => EnvFilter::new(level.as_str()),
        LogLevel::Info | LogLevel::Debug => EnvFilter::new(format!("warn,portolan={}", level.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_below_trace() {
        assert_eq!(filter(LogLevel::Info).to_string(), "portolan=info,warn");
        assert_eq!(filter(LogLevel::Error).to_string(), "error");
        assert_eq!(filter(LogLevel::Trace).to_string(), "trace");
    }
}
