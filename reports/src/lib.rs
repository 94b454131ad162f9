//! Reports: a [`RunRecord`](sim_core::record::RunRecord) turned into what people and tools read.
//!
//! The record is the only input: nothing here runs a simulation, reads a file, a clock or the environment, so the
//! same record gives the same bytes. [`Report`] is the front door:
//!
//! ```text
//! RunRecord -> Grid (modes x swept values) -> Sheet (formatted cells) -> table, Markdown, HTML
//!           -> Plot (lines, scales, labels) -> SVG (plotters)          -> HTML
//!           -> tidy CSV, JSON
//! ```
//!
//! Names in a record are free text and may be hostile; each writer escapes for its own format.

pub mod charts;
pub mod crossover;
pub mod csv;
pub mod curves;
pub mod grid;
pub mod html;
pub mod human;
pub mod json;
pub mod markdown;
pub mod metrics;
pub mod palette;
pub mod published;
mod report;
pub mod scale;
pub mod sheet;
pub mod svg;
pub mod table;

pub use report::Report;
