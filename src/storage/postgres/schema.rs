//! The schema and the statements over it.
//!
//! `rows` has all rows of all spaces. `version` has one row, the number of this schema: what a newer release made is refused. The
//! two functions belong to that number. Whoever comes first makes all of it, in one transaction under a lock that others wait for.
//!
//! `transact` locks each row in the order of keys: for writing, or for sharing where it is only checked. For a row that isn't
//! there it inserts one with an empty version, which nobody else ever sees, for it is overwritten or deleted before the end; whoever
//! else inserts that key waits. Then nothing that is expected can change any more, and it is looked at in one query.
//! An expectation is a version, the empty one of a row that isn't there, or null for none. The rows' own order makes a circle
//! of waiting transactions impossible.

use super::{error::DatabaseError, pool::Pool};
use crate::storage::fault::Class;

/// The number of the schema that this release reads and writes.
const SCHEMA: i32 = 1;
/// The oldest release of PostgreSQL that is tested, as `server_version_num` has it.
const OLDEST: u32 = 130_000;
/// The class of the advisory lock under which the schema is made.
const LOCK: i64 = 0x706f_7274_6f6c_616e;

/// Which server answers: no other runs since the same microsecond at the same address. A standby that is promoted goes on running.
const SERVER: &str =
    "concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), inet_server_addr(), inet_server_port())";

/// What is ever asked, for one schema.
pub(super) struct Statements {
    pub(super) get: String,
    pub(super) get_many: String,
    pub(super) range: String,
    pub(super) walk: String,
    pub(super) transact: String,
    pub(super) confirm: String,
}

impl Statements {
    /// `schema` is an identifier that needs no quotes.
    pub(super) fn new(schema: &str) -> Self {
        let primary =
            format!("NOT pg_is_in_recovery(), current_setting('synchronous_standby_names') <> '', {SERVER}");
        Self {
            get: format!(
                "SELECT {primary}, r.version, r.value FROM (VALUES (1)) AS one \
                 LEFT JOIN {schema}.rows r ON r.space = $1 AND r.pk = $2 AND r.sk = $3"
            ),
            get_many: format!(
                "SELECT {primary}, r.version, r.value \
                 FROM unnest($1::text[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS k(space, pk, sk, n) \
                 LEFT JOIN {schema}.rows r ON r.space = k.space AND r.pk = k.pk AND r.sk = k.sk ORDER BY k.n"
            ),
            // `before` bounds the page by bytes without reading the values that it leaves off.
            range: format!(
                "SELECT {primary}, p.sk, p.version, p.value FROM (VALUES (1)) AS one LEFT JOIN (\
                   SELECT sk, version, value, sum(octet_length(value)) OVER (ORDER BY sk ROWS UNBOUNDED PRECEDING) \
                     - octet_length(value) AS before \
                   FROM {schema}.rows WHERE space = $1 AND pk = $2 AND sk >= $3 AND sk < $4 ORDER BY sk LIMIT $5\
                 ) p ON p.before < $6 ORDER BY p.sk"
            ),
            // As above.
            walk: format!(
                "SELECT {primary}, p.pk, p.sk, p.version, p.value FROM (VALUES (1)) AS one LEFT JOIN (\
                   SELECT pk, sk, version, value, \
                     sum(octet_length(value)) OVER (ORDER BY pk, sk ROWS UNBOUNDED PRECEDING) - octet_length(value) AS before \
                   FROM {schema}.rows WHERE space = $1 AND (pk, sk) > ($2, $3) ORDER BY pk, sk LIMIT $4\
                 ) p ON p.before < $5 ORDER BY p.pk, p.sk"
            ),
            transact: format!(
                "SELECT refused, version, value, fenced, server FROM {schema}.transact($1, $2, $3, $4, $5, $6, $7)"
            ),
            confirm: format!("SELECT {schema}.confirm()"),
        }
    }
}

/// Everything that is made.
fn definition(schema: &str) -> String {
    format!(
        r#"
SELECT pg_advisory_xact_lock({LOCK});
DO $do$ BEGIN
  IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
END $do$;
CREATE TABLE IF NOT EXISTS {schema}.rows (
  space text COLLATE "C" NOT NULL,
  pk bytea NOT NULL,
  sk bytea NOT NULL,
  version bytea NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (space, pk, sk)
);
CREATE OR REPLACE FUNCTION {schema}.transact(
  _version bytea, _spaces text[], _pks bytea[], _sks bytea[], _expects bytea[], _effects smallint[], _values bytea[],
  OUT refused integer, OUT version bytea, OUT value bytea, OUT fenced boolean,
  OUT server text
) LANGUAGE plpgsql
SET search_path = pg_catalog
SET lock_timeout = '4s'
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $body$
#variable_conflict use_column
DECLARE
  op record;
  goes boolean;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'transactions must be read committed' USING ERRCODE = 'feature_not_supported';
  END IF;
  IF current_setting('synchronous_commit') IN ('off', 'local') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  fenced := current_setting('synchronous_standby_names') <> '';
  server := {SERVER};
  FOR op IN
    SELECT t.space, t.pk, t.sk, t.effect FROM unnest(_spaces, _pks, _sks, _effects) AS t(space, pk, sk, effect)
    ORDER BY t.space COLLATE "C", t.pk, t.sk
  LOOP
    LOOP
      IF op.effect = 0 THEN
        PERFORM 1 FROM {schema}.rows r WHERE r.space = op.space AND r.pk = op.pk AND r.sk = op.sk FOR SHARE;
      ELSE
        PERFORM 1 FROM {schema}.rows r WHERE r.space = op.space AND r.pk = op.pk AND r.sk = op.sk FOR UPDATE;
      END IF;
      EXIT WHEN FOUND;
      INSERT INTO {schema}.rows (space, pk, sk, version, value) VALUES (op.space, op.pk, op.sk, '', '')
      ON CONFLICT DO NOTHING;
      EXIT WHEN FOUND;
    END LOOP;
  END LOOP;
  SELECT t.n, nullif(r.version, ''), r.value INTO refused, version, value
  FROM unnest(_spaces, _pks, _sks, _expects) WITH ORDINALITY AS t(space, pk, sk, expect, n)
  JOIN {schema}.rows r ON r.space = t.space AND r.pk = t.pk AND r.sk = t.sk
  WHERE t.expect IS NOT NULL AND r.version <> t.expect
  ORDER BY t.n LIMIT 1;
  goes := NOT FOUND;
  IF goes THEN
    refused := 0;
    UPDATE {schema}.rows r SET version = _version, value = t.value
    FROM unnest(_spaces, _pks, _sks, _effects, _values) AS t(space, pk, sk, effect, value)
    WHERE t.effect = 1 AND r.space = t.space AND r.pk = t.pk AND r.sk = t.sk;
  ELSIF EXISTS (
    -- No other transaction has our version: this one was sent before, and applied.
    SELECT 1 FROM unnest(_spaces, _pks, _sks, _effects) AS t(space, pk, sk, effect)
    JOIN {schema}.rows r ON r.space = t.space AND r.pk = t.pk AND r.sk = t.sk
    WHERE t.effect = 1 AND r.version = _version
  ) THEN
    refused := 0;
    version := NULL;
    value := NULL;
  END IF;
  DELETE FROM {schema}.rows r USING unnest(_spaces, _pks, _sks, _effects) AS t(space, pk, sk, effect)
  WHERE r.space = t.space AND r.pk = t.pk AND r.sk = t.sk AND (r.version = '' OR (goes AND t.effect = 2));
END $body$;
CREATE OR REPLACE FUNCTION {schema}.confirm() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
BEGIN
  IF current_setting('synchronous_commit') IN ('off', 'local') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  PERFORM pg_logical_emit_message(true, 'portolan', '');
  RETURN {SERVER};
END $body$;
CREATE TABLE IF NOT EXISTS {schema}.version (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  number integer NOT NULL,
  oldest integer NOT NULL
);
INSERT INTO {schema}.version (number, oldest) VALUES ({SCHEMA}, {SCHEMA}) ON CONFLICT DO NOTHING;
"#
    )
}

/// Checks that the server is a primary and keeps what it acknowledges.
pub(super) async fn check_server(pool: &Pool) -> Result<(), DatabaseError> {
    let statement = "SELECT current_setting('server_version_num'), current_setting('server_version'), \
                     pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit'), \
                     current_setting('default_transaction_isolation')";
    let rows = pool
        .read("open", statement, &[], |_| Ok(()))
        .await
        .map_err(asking)?;
    let text = |at: usize| {
        let row = rows.first();
        row.and_then(|row| row.try_get::<_, String>(at).ok())
            .unwrap_or_default()
    };
    if text(0).parse::<u32>().is_ok_and(|number| number < OLDEST) {
        return Err(DatabaseError::Old { version: text(1) });
    }
    if rows.first().is_some_and(|row| row.try_get(2).unwrap_or(true)) {
        return Err(DatabaseError::Standby);
    }
    let settings = [
        ("fsync", text(3), &["on"][..]),
        (
            "synchronous_commit",
            text(4),
            &["on", "remote_apply", "remote_write"],
        ),
        ("default_transaction_isolation", text(5), &["read committed"]),
    ];
    for (setting, value, good) in settings {
        if !good.contains(&value.as_str()) {
            let wanted = good.first().copied().unwrap_or_default();
            return Err(DatabaseError::Unsafe {
                setting,
                value,
                wanted,
            });
        }
    }
    Ok(())
}

/// Checks that this release may use the schema, and makes it where it isn't there.
pub(super) async fn ensure(pool: &Pool, schema: &str) -> Result<(), DatabaseError> {
    if is_there(pool, schema).await? {
        return Ok(());
    }
    let made = pool.batch(&definition(schema)).await;
    made.map_err(|fault| match fault.class {
        Class::Unsent | Class::Busy | Class::Unsure => DatabaseError::Asking(fault.into_source()),
        Class::Contended
        | Class::Denied
        | Class::Full
        | Class::Unsupported
        | Class::Corrupt
        | Class::Refused => DatabaseError::Create {
            schema: schema.to_owned(),
            source: fault.into_source(),
        },
    })
}

/// Whether the schema is there; an error where it is a newer release's.
pub(super) async fn is_there(pool: &Pool, schema: &str) -> Result<bool, DatabaseError> {
    let statement = format!("SELECT to_regclass('{schema}.version') IS NOT NULL");
    let rows = pool
        .read("open", &statement, &[], |_| Ok(()))
        .await
        .map_err(asking)?;
    if !rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
        return Ok(false);
    }
    let statement = format!("SELECT number, oldest FROM {schema}.version");
    let rights = |source| DatabaseError::Rights {
        schema: schema.to_owned(),
        source,
    };
    let rows = pool
        .read("open", &statement, &[], |_| Ok(()))
        .await
        .map_err(rights)?;
    let numbers = rows
        .first()
        .and_then(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?)));
    match numbers {
        Some((number, oldest)) if oldest > SCHEMA => Err(DatabaseError::Newer {
            schema: schema.to_owned(),
            number,
            oldest,
            ours: SCHEMA,
        }),
        _ => Ok(true),
    }
}

fn asking(error: crate::storage::StoreError) -> DatabaseError {
    DatabaseError::Asking(error.into())
}
