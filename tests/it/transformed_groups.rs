//! Small objects whose rows go through SQL together.

use crate::{desk::Desk, world::World};
use anyhow::Result;
use penstock_tests::aws::Options;

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_runs_once_for_a_group_of_small_objects() -> Result<()> {
    const OBJECTS: usize = 60;
    let tables = "CREATE TABLE land (code text PRIMARY KEY, name text); \
         INSERT INTO land VALUES ('DE', 'Germany'), ('FR', 'France'), ('XX', NULL); \
         CREATE TABLE t (id bigint, part int, name text, source text, at timestamptz, n int DEFAULT 7, \
                         penstock_object bigint, penstock_row bigint, PRIMARY KEY (id, part))";
    let dataset = "[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"public.t\"\nkey = [\"id\", \"part\"]\n\
         fan_out = true\nmax_rejects = 5\n\
         join = \"JOIN public.land ON land.code = input.land CROSS JOIN LATERAL generate_series(1, input.size) p\"\n\
         set = { part = \"p\", name = \"land.name || 1 / (input.id - 16)\", at = \"input.penstock_last_modified\", \
                 source = \"input.penstock_bucket || '/' || input.penstock_key || '#' || input.penstock_row\" }\n\
         where = \"input.kind <> 'x' AND length(input.kind) < 3\"\n[dataset.input]\nsize = \"int\"\nland = \"text\"";
    let world = World::new(Options::default(), tables, dataset).await?;
    for object in 0..OBJECTS {
        let row = |id: usize| {
            let (land, size) = (["DE", "FR", "XX", "??"][id % 4], id % 3);
            let kind = ["a", "b", "x", "long"][id / 4 % 4];
            let n = if id.is_multiple_of(7) { format!(",\"n\":{id}") } else { String::new() };
            format!("{{\"id\":{id},\"land\":\"{land}\",\"size\":{size},\"kind\":\"{kind}\"{n}}}\n")
        };
        // Row 16 is refused, and so its object loaded alone.
        let rows: String = (object * 10..object * 10 + 10).map(row).collect();
        world.pipeline.put(&format!("{object}.json"), rows).await?;
    }
    world.drain(1).await?;
    let model = "WITH rows AS (SELECT id, (ARRAY['DE', 'FR', 'XX', '??'])[id % 4 + 1] AS land, id % 3 AS size, id / 4 % 4 AS kind \
                               FROM generate_series(0, 599) id) \
                 SELECT id, part, land.name || 1 / (id - 16), id / 10 || '.json#' || id % 10 + 1, CASE WHEN id % 7 = 0 THEN id ELSE 7 END \
                 FROM rows JOIN land ON land.code = rows.land CROSS JOIN LATERAL generate_series(1, size) part \
                 WHERE kind < 2 AND id <> 16 ORDER BY 1, 2";
    let rows = "SELECT t.id, part, name, split_part(source, '/', 2), n FROM t ORDER BY 1, 2";
    assert_eq!(world.database.rows(rows).await?, world.database.rows(model).await?);
    let lineage = "SELECT count(*), bool_and(split_part(source, '/', 2) = h.key || '#' || penstock_row AND at = o.last_modified \
                                             AND split_part(source, '/', 1) = h.bucket) \
                   FROM t JOIN penstock.object o ON o.id = t.penstock_object JOIN penstock.head h ON h.id = o.head_id";
    let n_rows = world.database.value("SELECT count(*) FROM t").await?;
    assert_eq!(world.database.rows(lineage).await?, [format!("{n_rows} | true")]);
    let sums = "SELECT sum(rows_read), sum(rows_written) = (SELECT count(*) FROM t), \
                       sum(rows_written - rows_added + rows_filtered + rows_rejected), sum(rows_rejected) \
                FROM penstock.object_status";
    assert_eq!(world.database.rows(sums).await?, ["600 | true | 600 | 1"]);
    let grouped = "SELECT count(*) FROM penstock.object WHERE technique = 'grouped'";
    let n_grouped: usize = world.database.value(grouped).await?.parse()?;
    assert!(n_grouped > OBJECTS / 20, "{n_grouped} of {OBJECTS} shared a transaction");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_take_too_long_together_are_loaded_one_by_one() -> Result<()> {
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, v text); \
         CREATE FUNCTION slow(v text, seconds float) RETURNS text LANGUAGE plpgsql IMMUTABLE AS \
         $$ BEGIN PERFORM pg_sleep(seconds); RETURN v; END $$";
    let dataset = "table = \"t\"\nkey = [\"id\"]\ntimeout = \"1s\"\n\
                   set = { v = \"slow(input.v, input.seconds)\" }\ninput = { seconds = \"float\" }";
    for (seconds, techniques) in [("0.01", "grouped | 8"), ("0.3", "staged | 8")] {
        let desk = Desk::new(tables, dataset).await?;
        let files: Vec<String> = (0..8)
            .map(|id| desk.write(&format!("{id}.csv"), format!("id,v,seconds\n{id},a,{seconds}\n")))
            .collect::<Result<_>>()?;
        let arguments: Vec<&str> = std::iter::once("load").chain(files.iter().map(String::as_str)).collect();
        desk.succeed(&arguments).await?;
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "8");
        let sums = "SELECT technique, count(*) FROM penstock.object GROUP BY 1";
        assert_eq!(desk.database.rows(sums).await?, [techniques]);
    }
    Ok(())
}
