//! What the cases found, for people.

use std::time::Duration;

use comfy_table::Table;

use super::Finding;

/// One row for each finding.
pub fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "what happens",
        "detect s",
        "re-home s",
        "back s",
        "equal s",
        "moves",
        "pings",
        "lost",
        "doubled",
        "wrongly gone",
    ]);
    for finding in findings {
        let (noticed, account) = (&finding.noticed, &finding.account);
        table.add_row([
            finding.what.to_owned(),
            seconds(noticed.detected),
            seconds(noticed.homed),
            seconds(noticed.back),
            seconds(noticed.equal),
            noticed.moves.to_string(),
            account.own.opened.to_string(),
            account.lost().to_string(),
            account.doubled().to_string(),
            finding.gone.len().to_string(),
        ]);
    }
    table
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}
