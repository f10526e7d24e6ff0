//! `monitoring/`: that Prometheus and Alertmanager take it, that every alert was seen to fire and to stay quiet, and that rules, dashboards,
//! runbook and metrics belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use euhub::telemetry::metrics::{DECLARED, Declared};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::hub::root;

const RULES: [&str; 2] = ["recording_rules.yml", "alert_rules.yml"];
const RULE_TESTS: [&str; 3] =
    ["recording_rules_test.yml", "alert_rules_test.yml", "alert_rules_days_test.yml"];
/// What PromQL knows by itself, where no parenthesis follows.
const WORDS: [&str; 16] = [
    "and",
    "avg",
    "bool",
    "by",
    "count",
    "group_left",
    "ignoring",
    "max",
    "min",
    "offset",
    "on",
    "or",
    "sum",
    "topk",
    "unless",
    "without",
];
/// Labels that Prometheus adds.
const LABELS_OF_TARGETS: [&str; 5] = ["__name__", "instance", "job", "le", "role"];

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Rule {
    alert: Option<String>,
    record: Option<String>,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RuleTests {
    tests: Vec<RuleTest>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RuleTest {
    alert_rule_test: Vec<AlertTest>,
    promql_expr_test: Vec<ExpressionTest>,
}

#[derive(Deserialize)]
struct AlertTest {
    alertname: String,
    exp_alerts: Vec<Value>,
}

#[derive(Deserialize)]
struct ExpressionTest {
    expr: String,
}

fn monitoring(path: &str) -> PathBuf {
    root().join("monitoring").join(path)
}

fn yaml<T: DeserializeOwned>(path: &str) -> T {
    let text = fs::read_to_string(monitoring(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rules() -> Vec<Rule> {
    RULES.iter().flat_map(|file| yaml::<Rules>(file).groups).flat_map(|group| group.rules).collect()
}

fn alerts() -> BTreeMap<String, Rule> {
    rules().into_iter().filter_map(|rule| Some((rule.alert.clone()?, rule))).collect()
}

fn recorded() -> BTreeSet<String> {
    rules().into_iter().filter_map(|rule| rule.record).collect()
}

fn rule_tests() -> Vec<RuleTest> {
    RULE_TESTS.iter().flat_map(|file| yaml::<RuleTests>(file).tests).collect()
}

/// The dashboards by their uid.
fn dashboards() -> BTreeMap<String, Value> {
    let files = fs::read_dir(monitoring("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let read = files.map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap());
    read.map(|dashboard| (dashboard["uid"].as_str().unwrap().to_owned(), dashboard)).collect()
}

/// The panels of a dashboard, rows left out.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Every expression of rules and dashboards, each with where it stands.
fn expressions() -> Vec<(String, String)> {
    let rules = rules().into_iter().map(|rule| (rule.alert.or(rule.record).unwrap(), rule.expr));
    let dashboards = dashboards();
    let of_panels = dashboards.iter().flat_map(|(uid, dashboard)| {
        panels(dashboard).flat_map(move |panel| {
            let targets = panel["targets"].as_array().unwrap().iter();
            targets.map(move |target| {
                (format!("{uid}, {}", panel["title"]), target["expr"].as_str().unwrap().to_owned())
            })
        })
    });
    let of_notes = dashboards.iter().flat_map(|(uid, dashboard)| {
        let notes = dashboard["annotations"]["list"].as_array().unwrap().iter();
        notes.map(move |note| (uid.clone(), note["target"]["expr"].as_str().unwrap().to_owned()))
    });
    rules.chain(of_panels).chain(of_notes).collect()
}

/// An expression taken apart: its series' names and its labels. Strings, durations, functions and operators are left out.
struct Names {
    series: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Names {
    fn of(expression: &str) -> Self {
        let (mut series, mut labels) = (BTreeSet::new(), BTreeSet::new());
        let words = |text: &str| -> Vec<String> {
            let split = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_:.".contains(letter));
            split
                .filter(|word| word.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_'))
                .map(str::to_owned)
                .collect()
        };
        for name in expression.split("__name__=\"").skip(1) {
            series.insert(name.split('"').next().unwrap().to_owned());
        }
        // With a space for each string, odd pieces gone.
        let bare: String = expression.replace("\\\"", "").split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let mut rest = String::new();
        for (at, piece) in bare.split(['{', '[', '}', ']']).enumerate() {
            // Braces and brackets are never nested, so what is inside is every second piece.
            if at % 2 == 0 {
                rest.push_str(piece)
            } else {
                labels.extend(words(piece))
            }
            rest.push(' ');
        }
        for word in ["by", "on", "without", "ignoring", "group_left"] {
            while let Some(start) = rest.find(&format!(" {word} (")) {
                let end = start + rest[start..].find(')').unwrap();
                let open = start + rest[start..].find('(').unwrap();
                labels.extend(words(&rest[open..end]));
                rest.replace_range(start..=end, " ");
            }
        }
        for word in words(&rest) {
            let called = rest.contains(&format!("{word}("));
            if !called && !WORDS.contains(&word.as_str()) {
                series.insert(word);
            }
        }
        // `$__rate_interval` and numbers with a unit stand in brackets, as labels do.
        labels.retain(|label| !label.starts_with("__rate"));
        Self { series, labels }
    }
}

fn declared(series: &str) -> Option<&'static Declared> {
    DECLARED.iter().find(|metric| {
        let name = metric.prometheus_name();
        let parts: &[&str] = if metric.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        parts.iter().any(|part| format!("{name}{part}") == series)
    })
}

#[test]
fn an_expression_is_taken_apart_into_series_and_labels() {
    let names = Names::of(
        r#"histogram_quantile(0.95, sum by (le, mode) (rate(a_bucket{b=~"c|d", e!="f"}[$__rate_interval]))) > on (g) group_left () h:i:j5m
           or {__name__="k:l", m="n"} unless avg_over_time(o[5m] offset 1h) - time() < 26 * 3600"#,
    );
    assert_eq!(names.series.iter().collect::<Vec<_>>(), ["a_bucket", "h:i:j5m", "k:l", "o"]);
    assert_eq!(names.labels.iter().collect::<Vec<_>>(), ["__name__", "b", "e", "g", "le", "m", "mode"]);
}

/// Runs a program in `monitoring/`; what it printed. It must succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(monitoring("")).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/bootstrap --tests installs it"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}\n{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

#[test]
fn prometheus_takes_its_configuration_and_every_alert_fires_and_rests_as_its_cases_say() {
    run("promtool", &["check", "config", "prometheus.yml"]);
    run("promtool", &[["check", "rules"].as_slice(), &RULES].concat());
    run("promtool", &[["test", "rules"].as_slice(), &RULE_TESTS].concat());
}

#[test]
fn a_label_of_a_metric_is_kept_where_prometheus_has_one_of_that_name() {
    assert!(DECLARED.iter().any(|metric| metric.labels.contains(&"job")));
    let configuration: Value = yaml("prometheus.yml");
    let jobs = configuration["scrape_configs"].as_array().unwrap();
    assert_eq!(jobs.iter().find(|job| job["job_name"] == "euhub").unwrap()["honor_labels"], true);
}

#[test]
fn alertmanager_takes_its_configuration_and_sends_each_severity_where_it_belongs() {
    run("amtool", &["check-config", "alertmanager.yml"]);
    for (severity, receiver) in [("page", "pages"), ("ticket", "tickets"), ("none", "dead-mans-switch")] {
        let alerts: Vec<String> = alerts()
            .into_iter()
            .filter(|(_, rule)| rule.labels["severity"] == severity)
            .map(|(name, _)| name)
            .collect();
        assert!(!alerts.is_empty(), "no alert is a {severity}");
        for alert in alerts {
            let (name, severity) = (format!("alertname={alert}"), format!("severity={severity}"));
            let routes = ["config", "routes", "test", "--config.file=alertmanager.yml", &name, &severity];
            assert_eq!(run("amtool", &routes).trim(), receiver, "{alert}");
        }
    }
}

#[test]
fn every_alert_has_a_firing_and_a_quiet_case_and_every_recorded_series_an_expected_value() {
    let tests = rule_tests();
    let cases: Vec<&AlertTest> = tests.iter().flat_map(|test| &test.alert_rule_test).collect();
    for alert in alerts().keys() {
        let of_it: Vec<_> = cases.iter().filter(|case| case.alertname == *alert).collect();
        assert!(of_it.iter().any(|case| !case.exp_alerts.is_empty()), "{alert} has no firing case");
        // The Watchdog is never quiet.
        let quiet = of_it.iter().any(|case| case.exp_alerts.is_empty());
        assert_eq!(quiet, alert != "Watchdog", "{alert}: a quiet case");
    }
    let expected: String =
        tests.iter().flat_map(|test| &test.promql_expr_test).map(|test| test.expr.as_str()).collect();
    for series in recorded() {
        let in_one = series.starts_with("slo:burn_rate:") && expected.contains("slo:burn_rate:.*");
        assert!(in_one || expected.contains(&series), "{series} has no expected value");
    }
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_saw_and_where_to_read_on() {
    let runbook = fs::read_to_string(root().join("docs/RUNBOOK.md")).unwrap();
    let sections: BTreeMap<String, &str> = runbook
        .split("\n### ")
        .skip(1)
        .map(|section| {
            let heading = section.lines().next().unwrap();
            (heading.to_lowercase(), section)
        })
        .collect();
    let dashboards = dashboards();
    let mut read = BTreeSet::new();
    for (alert, rule) in alerts() {
        for annotation in ["summary", "description"] {
            assert!(
                rule.annotations.get(annotation).is_some_and(|text| !text.is_empty()),
                "{alert} has no {annotation}"
            );
        }
        let anchor =
            rule.annotations["runbook_url"].strip_prefix("docs/RUNBOOK.md#").expect(&alert).to_owned();
        let section =
            sections.get(&anchor).unwrap_or_else(|| panic!("{alert}: the runbook has no section #{anchor}"));
        let names_it = anchor == alert.to_lowercase() || section.contains(&format!("`{alert}`"));
        assert!(names_it, "#{anchor} does not name {alert}");
        for part in ["**Means.**", "**Look", "**Over**"] {
            assert!(section.contains(part), "#{anchor} has no {part}");
        }
        let dashboard = rule.annotations["dashboard_url"].strip_prefix("/d/").expect(&alert);
        assert!(dashboards.contains_key(dashboard), "{alert}: there is no dashboard {dashboard}");
        read.insert(anchor);
    }
    let unread: Vec<_> = sections.keys().filter(|anchor| !read.contains(*anchor)).collect();
    assert!(unread.is_empty(), "sections of the runbook without an alert: {unread:?}");
}

#[test]
fn grafana_takes_the_dashboards() {
    run(monitoring("grafana/check").to_str().unwrap(), &[]);
}

#[test]
fn dashboards_are_those_of_their_tables_and_each_panel_says_what_it_shows_and_in_which_unit() {
    run(monitoring("grafana/make").to_str().unwrap(), &["--check"]);
    let dashboards = dashboards();
    assert_eq!(dashboards.len(), 5);
    for (uid, dashboard) in &dashboards {
        assert!(uid.starts_with("euhub-"), "{uid}");
        assert_eq!(dashboard["links"][0]["tags"], dashboard["tags"], "{uid} leads to the others");
        let mut seen = BTreeSet::new();
        for panel in panels(dashboard) {
            let title = format!("{uid}, {}", panel["title"]);
            assert!(seen.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
            assert!(
                panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{title}: no description"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].as_str().is_some_and(|unit| !unit.is_empty()),
                "{title}: no unit"
            );
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}: a fixed data source");
            }
        }
    }
}

#[test]
fn rules_and_dashboards_name_only_metrics_and_labels_that_exist() {
    let recorded = recorded();
    let foreign = |name: &str| {
        ["pg_", "redis_", "node_", "process_"].iter().any(|prefix| name.starts_with(prefix))
            || ["up", "ALERTS"].contains(&name)
    };
    let (mut unknown, mut odd) = (BTreeSet::new(), BTreeSet::new());
    for (place, expression) in expressions() {
        let names = Names::of(&expression);
        let metrics: Vec<_> = names.series.iter().filter_map(|name| declared(name)).collect();
        unknown.extend(
            names
                .series
                .iter()
                .filter(|name| !foreign(name) && !recorded.contains(*name) && declared(name).is_none())
                .map(|name| format!("{name} ({place})")),
        );
        if metrics.len() == names.series.len() {
            let known = |label: &str| {
                LABELS_OF_TARGETS.contains(&label)
                    || metrics.iter().any(|metric| metric.labels.contains(&label))
            };
            odd.extend(
                names.labels.iter().filter(|label| !known(label)).map(|label| format!("{label} ({place})")),
            );
        }
    }
    assert!(odd.is_empty(), "no such label: {odd:#?}");
    assert!(unknown.is_empty(), "no such metric: {unknown:#?}");
}

#[test]
fn every_metric_is_in_its_page_and_shown_by_a_rule_or_a_dashboard() {
    let page = fs::read_to_string(root().join("docs/METRICS.md")).unwrap();
    let shown: BTreeSet<String> =
        expressions().iter().flat_map(|(_, expression)| Names::of(expression).series).collect();
    let mut missing = Vec::new();
    for metric in DECLARED {
        let name = metric.prometheus_name();
        assert!(page.contains(&format!("| `{name}` |")), "docs/METRICS.md lacks {name}");
        if !shown.iter().any(|series| declared(series).is_some_and(|declared| declared.name == metric.name)) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "no rule and no dashboard shows {missing:?}");
}
