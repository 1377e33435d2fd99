//! The description of the interface has what the router has, and nothing else.
use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use serde_json::Value;
use tower::ServiceExt;

use super::authorization_tests::paths;
use super::*;
use crate::config::Config;
use crate::http::openapi::DESCRIPTION;

const BELOW: &str = "/db/{database}";

fn description() -> Value {
    serde_json::from_str(DESCRIPTION).unwrap()
}

/// Paths as the description has them, and what belongs to each.
fn described(description: &Value) -> BTreeMap<&str, &Value> {
    let paths = description["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| (&**path, item)).collect()
}

/// What clients of HTTP do not call: other processes, gRPC, files of the page.
fn is_described(path: &str) -> bool {
    let is_grpc = path
        .split('/')
        .nth(1)
        .is_some_and(|part| part.contains('.'));
    !is_grpc && !path.starts_with("/internal/") && !path.starts_with("/ui/")
}

#[test]
fn every_path_is_described_and_no_other() {
    let (description, routes) = (description(), paths());
    let named = |path: &str| path.replace("{*", "{");
    let (below, above): (Vec<_>, Vec<_>) = routes.iter().partition(|path| path.starts_with(BELOW));
    let above = above.into_iter().filter(|path| is_described(path));
    let expected: BTreeSet<String> = above.map(|path| named(path)).collect();
    let described = described(&description);
    let found: BTreeSet<String> = described.keys().map(|path| (*path).to_owned()).collect();
    assert_eq!(found, expected);

    let expected: BTreeSet<String> = below
        .into_iter()
        .map(|path| named(&path[BELOW.len()..]))
        .collect();
    let with_database = described
        .iter()
        .filter(|(_, item)| item["servers"][1]["url"] == BELOW);
    let found: BTreeSet<String> = with_database.map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_method_is_described_and_no_other() {
    let description = description();
    let app = App::new(Config::default());
    for (path, item) in described(&description) {
        let example = path
            .replace("{name}", "job")
            .replace("{group}", "a")
            .replace("{id}", "a");
        let request = Request::builder()
            .method("TRACE")
            .uri(example)
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        let response = router(Arc::clone(&app)).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers()[ALLOW].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<&str> = allowed
            .split(',')
            .filter(|method| *method != "head")
            .collect();
        let members = item.as_object().unwrap().keys().map(String::as_str);
        let found = members
            .filter(|name| !["servers", "parameters"].contains(name))
            .collect();
        assert_eq!(allowed, found, "{path}");
    }
}

/// All values of a member, wherever it is.
fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(name).and_then(Value::as_str));
            object
                .values()
                .for_each(|value| members(value, name, found));
        }
        Value::Array(array) => array.iter().for_each(|value| members(value, name, found)),
        _ => {}
    }
}

#[test]
fn the_description_is_consistent() {
    let description = description();
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut references = Vec::new();
    members(&description, "$ref", &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
    for (kind, known) in description["components"].as_object().unwrap() {
        let unused = known.as_object().unwrap().keys().filter(|name| {
            let reference = format!("#/components/{kind}/{name}");
            kind != "securitySchemes" && !references.contains(&reference.as_str())
        });
        assert_eq!(unused.collect::<Vec<_>>(), Vec::<&String>::new(), "{kind}");
    }
    let mut operations = Vec::new();
    members(&description, "operationId", &mut operations);
    let count = operations.len();
    operations.sort_unstable();
    operations.dedup();
    assert_eq!(operations.len(), count, "two operations have one name");
}

/// What may stand in the query string may stand in a form.
#[test]
fn forms_have_the_parameters_of_query_strings() {
    let description = description();
    let mut forms = 0;
    for (path, item) in described(&description) {
        let form = &item["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"];
        let Some(properties) = form["schema"]["properties"].as_object() else {
            continue;
        };
        forms += 1;
        let parameters = item["get"]["parameters"].as_array().unwrap();
        let resolved = parameters
            .iter()
            .map(|parameter| match parameter["$ref"].as_str() {
                Some(reference) => description.pointer(&reference[1..]).unwrap(),
                None => parameter,
            });
        let of_query: BTreeSet<&str> = resolved
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let of_form: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(of_form, of_query, "{path}");
    }
    assert!(forms > 10, "{forms}");
}
