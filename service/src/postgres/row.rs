//! Structs read from rows.

/// Has a struct read from rows by [`sqlx::query_as`]: each field from the column of its name, and through the type
/// named beside it where the column's is another.
///
/// sqlx's own derive would do, but compiles sqlx, TLS and a runtime a second time, for the compiler: a tenth of all
/// that a first build does.
///
/// ```
/// struct Count {
///     name: String,
///     objects: u64,
/// }
/// service::from_row!(Count { name, objects: i64 });
/// ```
#[macro_export]
macro_rules! from_row {
    ($name:ty { $($field:ident $(: $column:ty)?),+ $(,)? }) => {
        impl<'r> ::sqlx::FromRow<'r, ::sqlx::postgres::PgRow> for $name {
            fn from_row(row: &'r ::sqlx::postgres::PgRow) -> ::sqlx::Result<Self> {
                Ok(Self { $($field: $crate::from_row!(@read row $field $($column)?)),+ })
            }
        }
    };
    (@read $row:ident $field:ident) => {
        ::sqlx::Row::try_get($row, stringify!($field))?
    };
    (@read $row:ident $field:ident $column:ty) => {
        ::sqlx::Row::try_get::<$column, _>($row, stringify!($field))?
            .try_into()
            .map_err(|error| ::sqlx::Error::ColumnDecode { index: stringify!($field).into(), source: Box::new(error) })?
    };
}
