use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::{
    fmt,
    io::{self, IsTerminal},
    panic::PanicHookInfo,
};
use thiserror::Error;
use tracing::{Subscriber, error, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, reload};

use crate::{config::layered, text::printable};

/// What is logged when nobody says otherwise.
const DEFAULT_FILTER: &str = "info";

/// The longest filter that is taken, in bytes: a directive for each of a hundred modules.
const MAX_FILTER_BYTES: usize = 4096;

/// The flags of every binary about its log. `#[command(flatten)]` it; the flags work before and after a subcommand.
#[derive(Debug, Clone, Default, Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug or trace, or TARGET=LEVEL, separated by commas [default: info]
    #[arg(long, global = true, env = "ECHELON_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// How to write the log to standard error [default: text]
    #[arg(long, global = true, env = "ECHELON_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The `[log]` table of a configuration file: what [`LogArgs`] leaves open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// As `--log`.
    pub filter: Option<String>,
    /// As `--log-format`.
    pub format: Option<LogFormat>,
}

impl LogConfig {
    /// What is in force where nobody says otherwise.
    pub fn defaults() -> Self {
        Self { filter: Some(DEFAULT_FILTER.to_owned()), format: Some(LogFormat::default()) }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; in colour on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Why logging did not start. Nothing is logged then.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is not one.
    #[error(
        "`{directive}` is no log filter: {reason}; write error, warn, info, debug or trace, or TARGET=LEVEL, \
         separated by commas, such as `info,echelon_transport=debug`"
    )]
    Filter {
        /// The part of the filter that is wrong.
        directive: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process logs already.
    #[error("logging was started twice in one process; the first setting stays in force")]
    StartedTwice,
    /// There is no log to change. Cannot happen while the process-wide log is this one, which nothing replaces.
    #[error("the log is not the one that was started; its filter stays as it is")]
    Gone,
}

impl LogArgs {
    /// Starts logging to standard error for the whole process; what no flag says is taken from the `file`.
    ///
    /// Panics are logged too, from then on, so that a JSON log stays JSON.
    ///
    /// # Errors
    /// A filter that is not one, and a second start in one process.
    pub fn start(&self, file: &LogConfig) -> Result<Log, LogError> {
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let (subscriber, refilter) = subscriber(self.filter(file)?, self.format(file), colour, io::stderr);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::StartedTwice)?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(Log { args: self.clone(), format: self.format(file), refilter })
    }

    fn filter(&self, file: &LogConfig) -> Result<EnvFilter, LogError> {
        filter(&layered(self.log.clone(), file.filter.clone(), DEFAULT_FILTER.to_owned()))
    }

    fn format(&self, file: &LogConfig) -> LogFormat {
        layered(self.log_format, file.format, LogFormat::default())
    }
}

/// The log of this process once it has started.
pub struct Log {
    args: LogArgs,
    format: LogFormat,
    refilter: Refilter,
}

/// Puts another filter in the place of the one in force.
type Refilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

impl Log {
    /// Takes the filter of a file that was read again; flags and environment still go over it. Says whether the
    /// file asks for another format than is in force, which only a new start can give.
    ///
    /// # Errors
    /// A filter that is not one; the one in force stays so.
    pub fn reload(&self, file: &LogConfig) -> Result<bool, LogError> {
        (self.refilter)(self.args.filter(file)?).map_err(|_| LogError::Gone)?;
        Ok(self.args.format(file) != self.format)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("args", &self.args).field("format", &self.format).finish_non_exhaustive()
    }
}

/// Parses a filter more strictly than tracing does.
///
/// To tracing a misspelt level (`inof`) is a target whose every event is wanted, so that nothing is logged and nobody
/// knows why; a target without a level is therefore refused.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let refuse =
        |directive: &str, reason: String| LogError::Filter { directive: printable(directive), reason };
    if text.len() > MAX_FILTER_BYTES {
        return Err(refuse(text, format!("it is longer than {MAX_FILTER_BYTES} bytes")));
    }
    let builder = EnvFilter::builder().with_regex(false).with_default_directive(LevelFilter::INFO.into());
    for directive in text.split(',').filter(|directive| !directive.is_empty()) {
        if !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err() {
            return Err(refuse(directive, "not a level, and a target needs one".to_owned()));
        }
        builder.parse(directive).map_err(|error| refuse(directive, error.to_string()))?;
    }
    builder.parse(text).map_err(|error| refuse(text, error.to_string()))
}

fn subscriber<W>(
    filter: EnvFilter,
    format: LogFormat,
    colour: bool,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, Refilter)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Without internal errors: a closed standard error would otherwise turn the next event into a panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colour)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(builder.finish()), Box::new(move |filter| handle.reload(filter)))
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    error!(
        panic.message = panic.payload_as_str().unwrap_or("no message"),
        panic.location = panic.location().map(tracing::field::display),
        "Panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::sync::{Arc, Mutex};
    use tracing::{debug, info, info_span};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    #[test]
    fn good_filters_are_taken() {
        for text in ["", "info", "WARN", "off", "info,echelon_transport=debug", "[task]=trace", "a::b=error,"]
        {
            filter(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn bad_filters_are_named() {
        for (text, directive) in [
            ("inof", "`inof`"),
            ("info,echelon_core", "`echelon_core`"),
            ("info,a=loud", "`a=loud`"),
            ("a=b=c", "`a=b=c`"),
            ("\u{1b}[2J=info", r"`\u{1b}[2J=info`"),
        ] {
            let error = filter(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{directive} is no log filter: ")), "{error}");
            assert!(error.contains("info,echelon_transport=debug"), "{error}");
        }
        assert!(filter(&"info,".repeat(MAX_FILTER_BYTES)).is_err());
    }

    #[test]
    fn flags_are_read() {
        let cli = Cli::try_parse_from(["x", "--log", "debug", "--log-format", "json"]).unwrap();
        assert_eq!(cli.log.log.as_deref(), Some("debug"));
        assert_eq!(cli.log.log_format, Some(LogFormat::Json));
        assert!(Cli::try_parse_from(["x", "--log-format", "xml"]).is_err());
        let file: LogConfig = toml::from_str("filter = \"warn\"\nformat = \"json\"").unwrap();
        assert_eq!(file, LogConfig { filter: Some("warn".into()), format: Some(LogFormat::Json) });
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(text: &str, format: LogFormat) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (subscriber, _) = subscriber(filter(text).unwrap(), format, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let _span = info_span!("task", role = "listener").entered();
            info!(host.name = "a\u{1b}[31m", "Heard");
            debug!("Not for info");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged("info", LogFormat::Json);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!(lines[0]["message"], "Heard");
        assert_eq!(lines[0]["spans"][0]["role"], "listener");
    }

    #[test]
    fn text_obeys_the_filter_and_carries_no_escapes() {
        assert_eq!(logged("info", LogFormat::Text).lines().count(), 1);
        assert_eq!(logged("debug", LogFormat::Text).lines().count(), 2);
        assert!(!logged("debug", LogFormat::Text).contains('\u{1b}'));
    }

    #[test]
    fn another_filter_takes_effect_at_once_and_flags_go_over_the_file() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let buffer = Buffer::default();
            let writer = buffer.clone();
            let (subscriber, refilter) =
                subscriber(filter("warn").unwrap(), format, false, move || writer.clone());
            let log = Log { args: LogArgs::default(), format, refilter };
            let file =
                |filter: &str| LogConfig { filter: Some(filter.into()), format: Some(LogFormat::Json) };
            tracing::subscriber::with_default(subscriber, || {
                info!("Before");
                log.reload(&file("inof")).unwrap_err();
                info!("After a filter that is none");
                assert_eq!(log.reload(&file("info")).unwrap(), format == LogFormat::Text);
                info!("After");
            });
            let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
            assert!(text.lines().count() == 1 && text.contains("After"), "{text}");
        }
        let args = LogArgs { log: Some("error".into()), log_format: None };
        let file = LogConfig { filter: Some("debug".into()), format: None };
        assert_eq!(args.filter(&file).unwrap().to_string(), "error");
    }
}
