//! Content that is easily lost on the way.

use super::{Lab, assert_same, json};
use crate::program::run_ok;

const CONTENT: &str = r#"
    CREATE SCHEMA "odd.schema";
    CREATE TABLE "odd.schema"."we""ird 'table'.é" ("sel""ect" text, "Ünder" int, "select" int);
    INSERT INTO "odd.schema"."we""ird 'table'.é" VALUES (E'tab\t newline\n back\\slash "quoted" \x01', 1, NULL), (NULL, NULL, NULL), ('', 0, 0);
    CREATE TABLE "TABLE DATA public feeds" (n int);
    CREATE TABLE "$$" (n int DEFAULT 3); INSERT INTO "$$" DEFAULT VALUES;
    CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
    CREATE TABLE no_rows (id bigint PRIMARY KEY, note text NOT NULL);
    CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED, words tsvector GENERATED ALWAYS AS (to_tsvector('simple', a::text)) STORED);
    INSERT INTO computed (a) SELECT n FROM generate_series(1, 100) n;
    CREATE TABLE only_computed (b int GENERATED ALWAYS AS (7) STORED); INSERT INTO only_computed DEFAULT VALUES;
    CREATE TABLE many (id int GENERATED ALWAYS AS IDENTITY, word text);
    INSERT INTO many (word) SELECT sha256(n::text::bytea)::text FROM generate_series(1, 100000) n;
    CREATE TABLE twice (word text); INSERT INTO twice SELECT 'same' FROM generate_series(1, 10);
    CREATE TABLE large (body text);
    INSERT INTO large SELECT string_agg(sha256(n::text::bytea)::text, '') FROM generate_series(1, 320000) n;
    CREATE TABLE kinds (a numeric, b double precision, c real, d interval, e timestamptz, f date, g bytea, h jsonb, i json, j int[], k uuid, l inet,
        m daterange, n public.vector(3), o time, p money, r bit(5), s point, t "char", u oid, v regclass);
    INSERT INTO kinds VALUES ('NaN', 'Infinity', 1e-30, '1 year -2 days 03:04:05.000006', 'infinity', '4713-01-01 BC', '\x00ff', '{"a": [1, null]}',
        '{"b":  1}', '{1,NULL,-3}', '00000000-0000-0000-0000-000000000001', '::1/64', '[2026-01-01,)', '[1,2.5,-3]', '24:00', 12.34, B'10101',
        '(1,2)', 'x', 7, 'public.feeds');
    INSERT INTO kinds (a, b, c) VALUES (123456789012345678901234567890.123456789, 0.1::float8 + 0.2, '-0');
    CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS n;
    CREATE TABLE parted (n int, word text) PARTITION BY RANGE (n);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (10) TO (20);
    INSERT INTO parted VALUES (1, 'low'), (11, 'high');
    CREATE TABLE parent (n int); CREATE TABLE child (m int) INHERITS (parent); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
    CREATE SEQUENCE unused; CREATE SEQUENCE used START 7; SELECT nextval('used'), nextval('used');
    CREATE SEQUENCE "odd.schema"."Se""quence" INCREMENT 10 MINVALUE -50 START -50; SELECT nextval('"odd.schema"."Se""quence"');
    CREATE VIEW seen AS SELECT n FROM parted; CREATE MATERIALIZED VIEW held AS SELECT count(*) FROM many;
    CREATE TYPE mood AS ENUM ('glum', 'gay'); CREATE TABLE moods (m mood); INSERT INTO moods VALUES ('glum');
    CREATE FUNCTION shout(word text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(word) $$;
    CREATE INDEX ON many (shout(word));
    ALTER TABLE no_rows ADD COLUMN gone int; ALTER TABLE no_rows DROP COLUMN gone"#;

#[tokio::test]
async fn awkward_content_comes_back_as_it_was() {
    let lab = Lab::new().await;
    lab.run(CONTENT).await;
    let made = json(lab.backup(&["create", "--json"])).await;
    assert_eq!(made["verified"], true, "{made}");
    let tables = made["manifest"]["tables"].as_array().unwrap();
    for (name, rows) in [
        (r#""odd.schema"."we""ird 'table'.é""#, 3),
        (r#"public."$$""#, 1),
        ("public.no_columns", 2),
        ("public.no_rows", 0),
        ("public.computed", 100),
        ("public.only_computed", 1),
        ("public.many", 100_000),
        ("public.twice", 10),
        ("public.large", 1),
        ("public.kinds", 2),
        ("public.parted_low", 1),
        ("public.parent", 1),
    ] {
        let table = tables.iter().find(|table| table["name"] == name).expect(name);
        assert_eq!(table["rows"], rows, "{name}");
    }
    assert!(made["manifest"]["dump_size"].as_u64().unwrap() > 20 << 20, "with the large text");
    run_ok(lab.backup(&["verify", "latest", "--depth", "listing"])).await;

    let name = format!("awkward_{}", lab.database());
    run_ok(lab.backup(&["restore", "latest", "--into", &name])).await;
    assert_same(&lab.url_of(&name), &lab.hub.database_url).await;
}
