//! The log: text where a person reads it, JSON where a machine does; and the audit, one JSON line for every change that
//! somebody asked for, which is apart from the log and its level.
//!
//! They belong to the process: there is one of each, however many members it runs. Files are opened anew when
//! [`reopen`] is called, which SIGHUP does, so that `logrotate` may rename them.
//!
//! Deliberately absent: rotation itself, and remote collectors.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, fmt, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use super::output::Output;
use crate::{
    config::{Log, LogLevel, LogOutput},
    files,
};

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
    let logs = Logs::open(log)?;
    let installed = subscriber(&logs, log.level, is_terminal).try_init();
    installed.map_err(|_| LogError::Twice)?;
    // Nobody else gets here.
    let _ = LOGS.set(logs);
    Ok(())
}

/// Each layer has one filter, which knows the most verbose level it lets through. With a second one that doesn't, nothing is
/// known of the whole, and every span of HTTP/2 asks both filters anew: 4 % of the time of a forwarded pull.
fn subscriber(logs: &Logs, level: LogLevel, is_terminal: bool) -> impl Subscriber + Send + Sync + 'static {
    let main = fmt::layer().with_writer(logs.main.clone());
    let main = match is_terminal {
        true => main.with_target(false).boxed(),
        false => json(main).boxed(),
    };
    let audit = logs.audit.as_ref().map(|audit| {
        let layer = json(fmt::layer().with_writer(audit.clone())).with_target(false);
        layer.with_filter(Targets::new().with_target(AUDIT, LevelFilter::INFO))
    });
    tracing_subscriber::registry()
        .with(main.with_filter(filter(level)))
        .with(audit)
}

/// Whether [`start`] could write there; nothing is made.
///
/// # Errors
/// [`LogError::File`].
pub fn examine(output: &LogOutput) -> Result<(), LogError> {
    match output {
        LogOutput::Stdout | LogOutput::Stderr => Ok(()),
        LogOutput::File(path) => files::may_append(path).map_err(|source| LogError::File {
            path: path.clone(),
            source,
        }),
    }
}

/// The logs of this process, as soon as there are some.
static LOGS: OnceLock<Logs> = OnceLock::new();

struct Logs {
    main: Arc<Output>,
    audit: Option<Arc<Output>>,
    audit_required: bool,
    /// What was last said about them.
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    main: Option<String>,
    audit: Option<String>,
}

impl Logs {
    fn open(log: &Log) -> Result<Self, LogError> {
        let open = |name, output: &LogOutput| match Output::open(name, output) {
            Ok(output) => Ok(Arc::new(output)),
            Err(source) => Err(LogError::File {
                path: match output {
                    LogOutput::File(path) => path.clone(),
                    LogOutput::Stdout | LogOutput::Stderr => PathBuf::new(),
                },
                source,
            }),
        };
        Ok(Self {
            main: open("log", &log.output)?,
            audit: log
                .audit
                .as_ref()
                .map(|output| open("audit", output))
                .transpose()?,
            audit_required: log.audit_required,
            said: Mutex::default(),
        })
    }
}

/// Opens the files of the logs by their names again, for they may have been renamed.
pub fn reopen() {
    let Some(logs) = LOGS.get() else { return };
    let outputs = [Some(&logs.main), logs.audit.as_ref()];
    let mut reopened = true;
    for output in outputs.into_iter().flatten() {
        if let Err(error) = output.reopen() {
            tracing::error!(%error, "a file of the log can't be opened anew, the former one stays in use");
            reopened = false;
        }
    }
    if reopened {
        tracing::info!("the files of the logs are open anew");
    }
}

/// Tries again to write what couldn't be written, and says so where it can't: of the audit in the log, of the log on the
/// standard error. To be called every few seconds.
pub fn look() {
    let Some(logs) = LOGS.get() else { return };
    let mut said = logs.said.lock();
    let trouble = logs.audit.as_ref().and_then(|audit| audit.trouble());
    if said.audit != trouble {
        match &trouble {
            Some(error) => tracing::error!(error, "the audit can't be written: its lines wait in memory"),
            None => tracing::info!("the audit can be written again"),
        }
        said.audit = trouble;
    }
    let trouble = logs.main.trouble();
    if said.main != trouble {
        if let Some(error) = &trouble {
            // Where that is the log itself this fails, too, and nothing is left to say it to.
            let _ = writeln!(io::stderr(), "portolan: the log can't be written: {error}");
        }
        said.main = trouble;
    }
}

/// Why no requests should be sent here: the audit can't be written, and must be (`log.auditRequired`).
pub fn trouble() -> Option<String> {
    let logs = LOGS.get().filter(|logs| logs.audit_required)?;
    let error = logs.audit.as_ref()?.trouble()?;
    Some(format!("the audit can't be written: {error}"))
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

/// Libraries speak up only when something deserves a look, unless everything is asked for. The audit's lines aren't for the log.
fn filter(level: LogLevel) -> EnvFilter {
    let said = match level {
        LogLevel::Off | LogLevel::Error | LogLevel::Warn | LogLevel::Trace => level.as_str().to_owned(),
        LogLevel::Info | LogLevel::Debug => format!("warn,portolan={}", level.as_str()),
    };
    EnvFilter::new(format!("{said},{AUDIT}=off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_below_trace() {
        assert_eq!(filter(LogLevel::Info).to_string(), "portolan=info,audit=off,warn");
        assert_eq!(filter(LogLevel::Error).to_string(), "audit=off,error");
        assert_eq!(filter(LogLevel::Trace).to_string(), "audit=off,trace");
    }

    #[test]
    fn what_is_not_logged_is_refused_by_its_level_alone() {
        for audit in [None, Some(LogOutput::Stderr)] {
            let levels = [
                (
                    LogLevel::Off,
                    if audit.is_some() {
                        LevelFilter::INFO
                    } else {
                        LevelFilter::OFF
                    },
                ),
                (LogLevel::Info, LevelFilter::INFO),
                (LogLevel::Trace, LevelFilter::TRACE),
            ];
            for (level, most) in levels {
                let log = Log {
                    audit: audit.clone(),
                    ..Log::default()
                };
                let subscriber = subscriber(&Logs::open(&log).unwrap(), level, false);
                assert_eq!(
                    subscriber.max_level_hint(),
                    Some(most),
                    "{level:?}, audit {audit:?}"
                );
            }
        }
    }
}
