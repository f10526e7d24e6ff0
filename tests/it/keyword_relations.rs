//! `/keywords/*/relations`: which keywords are covered together, as a graph.

use std::collections::{BTreeMap, BTreeSet};

use euhub::clock::Clock;
use euhub::keywords::relations;
use euhub::proto::keyword_service_client::KeywordServiceClient;
use euhub::proto::{KeywordEdge, ListKeywordRelationsRequest};
use serde_json::{Value, json};

use crate::hub::Hub;
use crate::jobs::{Worker, count};
use crate::keywords::{create, keyword};
use crate::program::wait_for;

/// The linked articles of each keyword.
async fn sets(hub: &Hub) -> BTreeMap<String, BTreeSet<i64>> {
    let pairs: Vec<(String, i64)> = sqlx::query_as(
        "SELECT k.slug, l.article_id FROM article_keywords l JOIN keywords k ON k.id = l.keyword_id",
    )
    .fetch_all(&hub.db)
    .await
    .unwrap();
    let mut sets: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for (slug, article) in pairs {
        sets.entry(slug).or_default().insert(article);
    }
    sets
}

/// Every relation by its definition: both slugs, the strength, the articles.
async fn expected(hub: &Hub) -> Vec<(String, String, f64, usize)> {
    let sets = sets(hub).await;
    let archive = count(&hub.db, "SELECT count(*) FROM articles").await as f64;
    let mut relations = Vec::new();
    for (one, mine) in &sets {
        for (other, theirs) in sets.range(one.clone()..).skip(1) {
            let both = mine.intersection(theirs).count();
            let (a, b, ab) =
                (mine.len() as f64 / archive, theirs.len() as f64 / archive, both as f64 / archive);
            let npmi = (ab / (a * b)).ln() / -ab.ln();
            if both >= 3 && npmi > 0.0 {
                relations.push((one.clone(), other.clone(), npmi.min(1.0), both));
            }
        }
    }
    relations
}

fn name(slug: &str) -> String {
    format!("keywords/{slug}")
}

#[tokio::test]
async fn relations_are_npmi_and_ready_for_a_graph() {
    let hub = Hub::seeded().await;
    let all = expected(&hub).await;
    assert!(all.len() >= 3, "the samples show some at the first run: {all:?}");
    let sets = sets(&hub).await;
    for slug in sets.keys() {
        let graph = hub.get(&format!("/api/v1/keywords/{slug}/relations?pageSize=100")).await.ok();
        assert!(graph["computeTime"].is_string(), "{graph}");
        let mut neighbours: Vec<(f64, &String)> = all
            .iter()
            .filter_map(|(one, other, strength, _)| match slug {
                slug if slug == one => Some((*strength, other)),
                slug if slug == other => Some((*strength, one)),
                _ => None,
            })
            .collect();
        neighbours.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let slugs: Vec<&String> =
            std::iter::once(slug).chain(neighbours.iter().map(|(_, slug)| *slug)).collect();
        let nodes = graph["nodes"].as_array().unwrap();
        let shown: Vec<&str> = nodes.iter().map(|node| node["keyword"].as_str().unwrap()).collect();
        assert_eq!(shown, slugs.iter().map(|slug| name(slug)).collect::<Vec<_>>(), "{slug}");
        for (node, slug) in nodes.iter().zip(&slugs) {
            assert_eq!(node["articleCount"], sets[*slug].len());
            assert_ne!(node["displayName"], "");
        }

        let edges = graph["edges"].as_array().unwrap();
        let among: Vec<_> =
            all.iter().filter(|(one, other, _, _)| slugs.contains(&one) && slugs.contains(&other)).collect();
        assert_eq!(edges.len(), among.len(), "{slug}");
        for (one, other, strength, both) in among {
            let (source, target) = if other == slug { (other, one) } else { (one, other) };
            let edge =
                edges.iter().find(|edge| edge["source"] == name(source) && edge["target"] == name(target));
            let edge = edge.unwrap_or_else(|| panic!("{slug}: {source} to {target}"));
            assert!((edge["strength"].as_f64().unwrap() - strength).abs() < 1e-9, "{edge}");
            assert_eq!(edge["articleCount"], *both);
        }
        assert!(edges.is_sorted_by(|a, b| a["strength"].as_f64() >= b["strength"].as_f64()), "{slug}");
    }
    assert_eq!(hub.get("/api/v1/keywords/no-such/relations").await.status, 404);
}

#[tokio::test]
async fn a_graph_is_bounded_in_size_and_strength() {
    let hub = Hub::seeded().await;
    let all = expected(&hub).await;
    let degree = |slug: &str| all.iter().filter(|(one, other, _, _)| one == slug || other == slug).count();
    let slug = sets(&hub).await.into_keys().max_by_key(|slug| degree(slug)).unwrap();
    assert!(degree(&slug) >= 2);
    let mut client = KeywordServiceClient::new(hub.channel().await);
    let mut graph = async |min_strength: f64, page_size: i32| {
        let request = ListKeywordRelationsRequest { parent: name(&slug), min_strength, page_size };
        client.list_keyword_relations(request).await.unwrap().into_inner()
    };
    let whole = graph(0.0, 100).await;
    let one = graph(0.0, 1).await;
    assert_eq!(one.nodes, whole.nodes[..2]);
    assert_eq!((one.edges.len(), &one.edges[0].source), (1, &name(&slug)));
    let mine: Vec<&KeywordEdge> = whole.edges.iter().filter(|edge| edge.source == name(&slug)).collect();
    let least = mine[0].strength;
    let strong = graph(least, 100).await;
    assert!(strong.edges.iter().all(|edge| edge.strength >= least));
    assert_eq!(strong.nodes.len(), 1 + mine.iter().filter(|edge| edge.strength >= least).count());
    let none = graph(1.0, 100).await;
    assert!(
        none.nodes.len() <= whole.nodes.len() && none.nodes[0] == whole.nodes[0],
        "the keyword itself is there"
    );
}

#[tokio::test]
async fn a_new_keyword_has_relations_after_the_next_computation() {
    let hub = Hub::seeded().await;
    create(&hub, keyword("Energy again", &[("en", "energy"), ("de", "Energie")])).await;
    let path = "/api/v1/keywords/energy-again/relations";
    let before = hub.get(path).await.ok();
    assert_eq!((before["nodes"].as_array().unwrap().len(), &before["edges"]), (1, &json!([])));
    hub.admin("POST", "/api/v1/admin/jobs/relate-keywords:run", json!({})).await.ok();
    let worker = Worker::start(&hub).await;
    wait_for("relations", async || {
        hub.get(path).await.ok()["edges"].as_array().is_some_and(|edges| !edges.is_empty())
    })
    .await;
    worker.stop().await;
    let after = hub.get(path).await.ok();
    assert!(after["computeTime"].as_str() > before["computeTime"].as_str());
    assert_eq!(
        expected(&hub).await.len() as i64,
        count(&hub.db, "SELECT count(*) FROM keyword_relations").await
    );

    // A deleted keyword leaves the graph at once.
    hub.admin("DELETE", "/api/v1/keywords/energy-again", Value::Null).await.ok();
    assert_eq!(
        expected(&hub).await.len() as i64,
        count(&hub.db, "SELECT count(*) FROM keyword_relations").await
    );
    relations::rebuild(&hub.db, Clock::system().now()).await.unwrap();
    assert_eq!(
        expected(&hub).await.len() as i64,
        count(&hub.db, "SELECT count(*) FROM keyword_relations").await
    );
}

#[tokio::test]
async fn before_the_first_computation_there_is_the_keyword_alone() {
    let hub = Hub::empty().await;
    create(&hub, keyword("Alone", &[("en", "alone")])).await;
    let graph = hub.get("/api/v1/keywords/alone/relations").await.ok();
    let node = json!({"keyword": "keywords/alone", "displayName": "Alone", "articleCount": 0});
    assert_eq!((&graph["nodes"], &graph["edges"]), (&json!([node]), &json!([])));
    assert_eq!(graph["computeTime"], Value::Null);
}
