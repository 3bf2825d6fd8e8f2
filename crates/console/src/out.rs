//! Standard output.

use crate::problem::Problem;
use crate::table::Table;
use anstream::AutoStream;
use serde::Serialize;
use std::fmt::Display;
use std::io::{BufWriter, Stdout, Write};

/// Standard output, for people or for programs.
pub(crate) struct Out {
    json: bool,
    writer: BufWriter<AutoStream<Stdout>>,
}

impl Out {
    /// Standard output; with `json`, for programs.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, writer: BufWriter::new(anstream::stdout()) }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Problem> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    /// Text that ends its own lines.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Problem> {
        Ok(self.writer.write_all(text.as_bytes())?)
    }

    /// Whether whoever reads it sees styles; else they are taken away.
    pub(crate) fn is_styled(&self) -> bool {
        AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
    }

    /// Much text at a time, which ends its own lines, as it is: styles, if it has any, are not taken away.
    pub(crate) fn plain(&mut self, text: &str) -> Result<(), Problem> {
        self.writer.flush()?;
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }

    /// One JSON object, on one line.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Problem> {
        serde_json::to_writer(&mut self.writer, object).map_err(std::io::Error::from)?;
        Ok(writeln!(self.writer)?)
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Problem> {
        table.lines().try_for_each(|line| self.line(line))
    }

    /// A remark to a person, on standard error, so that it is in nobody's way.
    pub(crate) fn note(&mut self, text: impl Display) -> Result<(), Problem> {
        self.finish()?;
        if !self.json {
            writeln!(anstream::stderr(), "{text}")?;
        }
        Ok(())
    }

    /// Writes what is still held back.
    pub(crate) fn finish(&mut self) -> Result<(), Problem> {
        Ok(self.writer.flush()?)
    }
}
