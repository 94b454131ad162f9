//! The record itself as JSON: pretty, ended by a newline, equal bytes for equal records.

use sim_core::record::RunRecord;

/// The record as JSON.
pub fn render(record: &RunRecord) -> String {
    let mut text = serde_json::to_string_pretty(record).expect("a record has text keys and finite numbers");
    text.push('\n');
    text
}
