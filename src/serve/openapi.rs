//! The description of all routes for programs: `openapi.json`, with the limits of the server that gives it.

use crate::embedder::Embedder;
use crate::serve::app::App;
use crate::tasks::Task;
use serde_json::{Value, json};

/// As text, in JSON.
pub(crate) fn text(app: &App) -> String {
    let text = include_str!("openapi.json");
    // The tests read it.
    let Ok(mut document) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let mut set = |pointer: &str, value: Value| {
        if let Some(place) = document.pointer_mut(pointer) {
            *place = value;
        }
    };
    set("/info/version", env!("CARGO_PKG_VERSION").into());
    for list in LISTS {
        set(&format!("/components/schemas/{list}/anyOf/1/maxItems"), app.options.max_items.into());
    }
    let names = Task::ALL.iter().flat_map(|task| std::iter::once(&task.name).chain(task.aliases));
    set(TASKS, json!(names.collect::<Vec<_>>()));
    // Of several models, what all of them take.
    let named = app.models().map_or(&[][..], |models| models.names());
    let least = |of: fn(&Embedder) -> usize| named.iter().map(|named| of(&named.loaded().embedder)).min();
    if let Some((dimensions, tokens)) = least(Embedder::dimensions).zip(least(Embedder::vocabulary)) {
        set(DIMENSIONS, dimensions.into());
        set(TOKENS, (tokens - 1).into());
    }
    document.to_string()
}

/// Forms of the field with the texts; the second one is a list.
const LISTS: [&str; 3] = ["Texts", "AnyTexts", "AnyTextsOrNone"];
const TASKS: &str = "/components/schemas/TaskName/enum";
const DIMENSIONS: &str = "/components/schemas/Dimensions/maximum";
const TOKENS: &str = "/components/schemas/TokenId/maximum";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::options::ServeOptions;
    use crate::serve::tests::Fixture;
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(include_str!("openapi.json")).unwrap()
    }

    #[test]
    fn every_route_is_described_and_the_other_way_round() {
        let source = include_str!("routes.rs");
        let code = source.split("#[cfg(test)]").next().unwrap();
        let strings = code.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/') && !text.contains(' '));
        let routes: BTreeSet<String> = strings.map(|path| path.replace("{*", "{")).collect();
        let document = document();
        let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(routes, described);
    }

    #[test]
    fn every_reference_leads_somewhere_and_nothing_is_left_over() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => (),
            }
        }
        let (document, mut found) = (document(), BTreeSet::new());
        references(&document, &mut found);
        let mut defined = BTreeSet::new();
        for kind in ["schemas", "responses", "headers"] {
            let names = document["components"][kind].as_object().unwrap().keys();
            defined.extend(names.map(|name| format!("#/components/{kind}/{name}")));
        }
        assert_eq!(found, defined);
    }

    #[test]
    fn every_method_that_is_described_is_there_and_every_example_is_taken() {
        let fixture = Fixture::with(ServeOptions::default());
        let document = document();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let path = path.replace("{deployment}", "any").replace("{id}", "tiny").replace("{rest}", "chat");
                let method: axum::http::Method = method.to_uppercase().parse().unwrap();
                let examples = operation.pointer("/requestBody/content/application~1json/examples");
                let mut bodies: Vec<String> =
                    examples.and_then(Value::as_object).map_or(vec![String::new()], |examples| {
                        examples.values().map(|example| example["value"].to_string()).collect()
                    });
                if method != axum::http::Method::GET {
                    bodies.push("[".into());
                }
                for body in bodies {
                    let status = fixture.send(method.clone(), &path, &body).status().as_u16().to_string();
                    assert_ne!(status, "405", "{method} {path}");
                    assert!(
                        operation["responses"].get(&status).is_some(),
                        "{method} {path} {body}: {status} is not described"
                    );
                    assert!(body == "[" || matches!(&*status, "200" | "501"), "{method} {path} {body}: {status}");
                }
            }
        }
    }

    #[test]
    fn limits_are_those_of_the_server() {
        let fixture = Fixture::with(ServeOptions::default().max_items(77));
        let (status, document) = fixture.get("/openapi.json");
        assert_eq!(status, 200);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((document.pointer(DIMENSIONS), document.pointer(TOKENS)), (Some(&32.into()), Some(&299.into())));
        for list in LISTS {
            assert_eq!(document["components"]["schemas"][list]["anyOf"][1]["maxItems"], 77, "{list}");
        }
        let tasks = document.pointer(TASKS).and_then(Value::as_array).unwrap();
        assert!(
            tasks.len() >= 2 && tasks.iter().all(|name| Task::named(name.as_str().unwrap()).is_some()),
            "{tasks:?}"
        );
    }
}
