//! The log: text where a person reads it, JSON where a machine does; and the audit, one JSON line for every change that
//! somebody asked for, which is apart from the log and its level.
//!
//! Deliberately absent: rotation (the file is opened for appending, so `logrotate` with `copytruncate` or a service
//! manager does it) and remote collectors.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{Targets, filter_fn},
    fmt::{self, writer::BoxMakeWriter},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

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

/// Target of the lines of the audit.
pub const AUDIT: &str = "audit";

/// Logs from now on as `log` says.
///
/// # Errors
/// [`LogError`] when a file can't be opened, or on a second call.
pub fn start(log: &Log) -> Result<(), LogError> {
    let is_terminal = match &log.output {
        LogOutput::Stdout => io::stdout().is_terminal(),
        LogOutput::Stderr => io::stderr().is_terminal(),
        LogOutput::File(_) => false,
    };
    let main = fmt::layer().with_writer(writer(&log.output)?);
    let main = match is_terminal {
        true => main.with_target(false).boxed(),
        false => json(main).boxed(),
    };
    let not_audit = filter_fn(|metadata| metadata.target() != AUDIT);
    let main = main.with_filter(filter(log.level)).with_filter(not_audit);
    let audit = match &log.audit {
        None => None,
        Some(output) => {
            let layer = json(fmt::layer().with_writer(writer(output)?)).with_target(false);
            Some(layer.with_filter(Targets::new().with_target(AUDIT, LevelFilter::INFO)))
        }
    };
    let installed = tracing_subscriber::registry().with(main).with(audit).try_init();
    installed.map_err(|_| LogError::Twice)
}

fn writer(output: &LogOutput) -> Result<BoxMakeWriter, LogError> {
    Ok(match output {
        LogOutput::Stdout => BoxMakeWriter::new(io::stdout),
        LogOutput::Stderr => BoxMakeWriter::new(io::stderr),
        LogOutput::File(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file: File = opened.map_err(|source| LogError::File {
                path: path.clone(),
                source,
            })?;
            BoxMakeWriter::new(Arc::new(file))
        }
    })
}

/// One object a line, with the fields of an event side by side.
fn json<S, N, L, T, W>(layer: fmt::Layer<S, N, fmt::format::Format<L, T>, W>) -> JsonLayer<S, T, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> fmt::FormatFields<'a> + 'static,
{
    layer
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
}

type JsonLayer<S, T, W> =
    fmt::Layer<S, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json, T>, W>;

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
