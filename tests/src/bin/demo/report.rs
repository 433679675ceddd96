//! What the demo prints.

use crate::{Stage, plan::Plan, watch::Sample};
use anyhow::Result;

/// Prints a heading.
pub fn step(text: &str) {
    println!("\n── {text}");
}

/// Prints text two columns to the right.
pub fn indented(text: &str) {
    for line in text.trim().lines() {
        println!("  {line}");
    }
}

/// Prints what arrived; returns whether every object was imported.
pub async fn summary(stage: &Stage, plan: &Plan, uploaded_bytes: u64, samples: &[Sample]) -> Result<bool> {
    println!();
    step("what the ledger says (penstock.object_status)");
    print_table(
        stage,
        "SELECT state, reason, count(*) AS objects, sum(rows_read) AS rows_read, sum(rows_written) AS rows_written, \
         sum(rows_merged) AS rows_merged, sum(rows_rejected) AS rows_rejected \
         FROM penstock.object_status GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .await?;
    println!();
    print_table(
        stage,
        "SELECT id, key, state, attempts, rows_read, rows_written, bytes, round(duration_seconds::numeric, 3) AS seconds \
         FROM penstock.object_status ORDER BY id LIMIT 6",
    )
    .await?;

    step(&format!("{}: {}", plan.sample.0, plan.sample.1));
    print_table(stage, &plan.sample.1).await?;

    let imported = number(stage, "SELECT count(*) FROM penstock.object_status WHERE state = 'imported'").await?;
    let rows = number(stage, &format!("SELECT count(*) FROM {}", plan.table)).await?;
    // Not the programs' start, nor the polls that found the queue empty.
    let took = "SELECT extract(epoch FROM max(imported_at) - min(started_at)) FROM penstock.object_status";
    let took: f64 = stage.database.value(took).await?.parse().unwrap_or_default();
    let dead_letters = stage.pipeline.dead_letter_depth().await?;
    step("summary");
    println!("  objects       {imported} of {}", plan.n_objects());
    println!("  uploaded      {}", mebibytes(uploaded_bytes));
    println!("  rows          {}", thousands(rows));
    println!("  peak workers  {}", samples.iter().map(|sample| sample.workers).max().unwrap_or(0));
    println!("  time          {took:.1} s from the first receive to the last commit");
    let unoptimised = if cfg!(debug_assertions) { " (not optimised: built quickly)" } else { "" };
    println!("  rows/s        {}{unoptimised}", thousands((rows as f64 / took.max(0.001)) as u64));
    println!("  queue         empty, {} dead letters", dead_letters.visible);
    Ok(imported == plan.n_objects())
}

/// Prints the decisions that changed the number of workers, and why they were made.
pub async fn decisions(stage: &Stage) -> Result<()> {
    step("what the scaler decided (penstock.decisions)");
    print_table(
        stage,
        "SELECT to_char(at, 'HH24:MI:SS') AS at, desired, reason, explain FROM (
             SELECT *, lag(desired, 1, 0) OVER (ORDER BY at) AS before FROM penstock.decisions
         ) decisions WHERE desired <> before ORDER BY at",
    )
    .await
}

async fn number(stage: &Stage, query: &str) -> Result<u64> {
    Ok(stage.database.value(query).await?.parse()?)
}

/// Prints a query's result in columns, as `psql` does.
pub async fn print_table(stage: &Stage, query: &str) -> Result<()> {
    let names = stage.database.columns(query).await?;
    let mut lines = vec![names];
    for row in stage.database.cells(query).await? {
        lines.push(row.into_iter().map(|cell| cell.unwrap_or_default()).collect());
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max())
        .map(|width| width.unwrap_or_default().min(90))
        .collect();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| padded(cell, width)).collect();
        println!("  {}", cells.join(" │ ").trim_end());
        if index == 0 {
            println!("  {}", widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join("─┼─"));
        }
    }
    Ok(())
}

fn padded(cell: &str, width: usize) -> String {
    let shown: String = if cell.chars().count() > width {
        cell.chars().take(width - 1).chain(['…']).collect()
    } else {
        cell.to_owned()
    };
    if cell.parse::<f64>().is_ok() { format!("{shown:>width$}") } else { format!("{shown:<width$}") }
}

/// Returns 1234567 as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns bytes as MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(["0", "999", "1,000", "12,345", "1,234,567"], [0, 999, 1000, 12345, 1_234_567].map(thousands));
    }

    #[test]
    fn long_cells_are_cut_and_numbers_stand_right() {
        assert_eq!(padded("abcdef", 4), "abc…");
        assert_eq!(padded("12", 4), "  12");
        assert_eq!(padded("ab", 4), "ab  ");
    }
}
