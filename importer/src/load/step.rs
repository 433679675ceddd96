//! Where rows that a transform makes are staged.

use super::{
    Session, Target,
    sql::{self, StagedColumn},
    transform::Transform,
};

/// Where they are staged.
pub struct Step {
    /// Its columns.
    pub columns: Vec<StagedColumn>,
    /// The table's quoted name.
    pub staging: String,
}

impl Step {
    /// Makes ready for what the target's transform makes of rows that are staged so in `input`; none where it has none.
    /// Must be called outside a transaction.
    ///
    /// # Errors
    /// Of the database.
    pub async fn prepare(
        session: &mut Session,
        target: &Target,
        staged: &[StagedColumn],
        input: &str,
    ) -> sqlx::Result<Option<Self>> {
        let Some(transform) = target.transform.as_ref().filter(|transform| transform.runs()) else { return Ok(None) };
        let columns = transform.made_columns(&target.table, staged);
        // A name of its own, also where the shape is that of the rows it takes.
        let shape = sql::staging_shape(&columns, &target.key).replacen('(', "( ", 1);
        let staging = session.staging(&shape).await?;
        session.transforms(&transform.runs_as, [input, &staging]).await?;
        Ok(Some(Self { columns, staging }))
    }

    /// Finds out which columns have values, of what rows are made of.
    pub fn look_at(&mut self, transform: &Transform, input: &[StagedColumn]) {
        for column in &mut self.columns {
            let of = input.iter().find(|other| other.target.column.name == column.target.column.name);
            column.seen = transform.sets(&column.target.column.name) || of.is_some_and(|of| of.seen);
        }
        // A statement has to name some column, also where rows have only fields that SQL uses.
        if self.columns.iter().all(|column| !column.seen) {
            self.columns.iter_mut().for_each(|column| column.seen = true);
        }
    }
}
