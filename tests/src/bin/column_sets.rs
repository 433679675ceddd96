//! Measures whether imports get slower with the number of column sets a session has seen.

use anyhow::{Result, ensure};
use clap::Parser;
use penstock_tests::{
    postgres::{Options, Postgres},
    process::Program,
    scratch::Scratch,
};
use std::{fmt::Write as _, sync::Arc, time::Duration};

/// Loads files of which each has other columns of one table, and prints the mean time of an import by tenths of
/// them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Files, and column sets.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(10..1 << N_COLUMNS))]
    sets: u64,
    /// Rows of each.
    #[arg(long, default_value_t = 20)]
    rows: u64,
}

/// Columns that a file has or lacks.
const N_COLUMNS: u64 = 13;

/// How long all of them may take.
const LIMIT: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options = Options { durable: true, ..Options::default() };
    let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(options)).await??);
    let database = postgres.create_database().await?;
    let columns: Vec<String> = (0..N_COLUMNS).map(|column| format!("c{column} int")).collect();
    database.execute(&format!("CREATE TABLE t (id bigint PRIMARY KEY, {})", columns.join(", "))).await?;

    let scratch = Scratch::new("column-sets")?;
    for set in 1..=arguments.sets {
        scratch.write(&format!("{set:05}.csv"), file(set, arguments.rows)?)?;
    }
    let files = scratch.path().join("*.csv").display().to_string();
    let config = format!(
        "[database]\nurl = \"{}\"\n[worker]\nconcurrency = 1\n[[dataset]]\nname = \"t\"\nmatch = \"{files}\"\n\
         table = \"public.t\"\nkey = [\"id\"]\ntechnique = \"staged\"\n",
        database.url()
    );
    let config = scratch.write("importer.toml", config)?;
    let loaded = Program::new("importer").args(["load", &files, "--config"]).arg(config).run(LIMIT).await?;
    ensure!(loaded.status.success(), "{}", loaded.stderr);
    let n_rows = database.value("SELECT count(*) FROM t").await?;
    ensure!(n_rows == (arguments.sets * arguments.rows).to_string(), "{n_rows} rows");

    println!("| column sets | mean, ms | p95, ms |");
    println!("|--:|--:|--:|");
    let tenths = "SELECT max(n), round(1000 * avg(duration_seconds)::numeric, 1),
                         round(1000 * percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds)::numeric, 1)
                  FROM (SELECT duration_seconds, row_number() OVER (ORDER BY imported_at, id) AS n,
                               ntile(10) OVER (ORDER BY imported_at, id) AS tenth
                        FROM penstock.object_status WHERE state = 'imported') objects
                  GROUP BY tenth ORDER BY tenth";
    for tenth in database.rows(tenths).await? {
        println!("| {tenth} |");
    }
    Ok(())
}

/// Returns a file with the columns whose bits are set.
fn file(set: u64, n_rows: u64) -> Result<String> {
    let columns: Vec<u64> = (0..N_COLUMNS).filter(|column| set >> column & 1 == 1).collect();
    let mut text = String::from("id");
    for column in &columns {
        write!(text, ",c{column}")?;
    }
    for row in 0..n_rows {
        write!(text, "\n{}", set * n_rows + row)?;
        for column in &columns {
            write!(text, ",{}", row + column)?;
        }
    }
    text.push('\n');
    Ok(text)
}
