SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_num,
       current_setting('synchronous_commit') AS synchronous_commit,
       pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
       has_database_privilege(current_database(), 'TEMPORARY') AS may_create_temp,
       current_database()::text AS database,
       current_user::text AS role
