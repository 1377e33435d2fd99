use axum::body::BodyDataStream;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use tower::ServiceExt;

use super::*;
use crate::config::Config;
use crate::http::router::router;
use crate::node::backend::Backend;

async fn app() -> Arc<App> {
    let app = App::new(Config::default());
    app.service.attach(Backend::in_memory().await);
    app
}

async fn watch(app: &Arc<App>, query: &str) -> (StatusCode, BodyDataStream) {
    let request = Request::get(format!("/api/v1/tail{query}"));
    let request = request
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap();
    let response = router(Arc::clone(app)).oneshot(request).await.unwrap();
    (response.status(), response.into_body().into_data_stream())
}

async fn write(app: &Arc<App>, lines: &str) {
    let request = Request::post("/write?db=default&precision=ms").header("host", "localhost");
    let request = request.body(Body::from(lines.to_owned())).unwrap();
    let response = router(Arc::clone(app)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

/// The next event that says anything.
async fn event(events: &mut BodyDataStream) -> String {
    loop {
        let event = events.next().await.expect("an event").unwrap();
        let text = String::from_utf8(event.to_vec()).unwrap();
        if !text.contains("\"points\":[],") {
            return text;
        }
    }
}

fn points(event: &str) -> Vec<Value> {
    let data = event.strip_prefix("data: ").expect(event);
    let body: Value = serde_json::from_str(data).unwrap();
    body["points"].as_array().unwrap().clone()
}

#[tokio::test]
async fn points_are_seen_as_they_arrive() {
    let app = app().await;
    let (status, mut all) = watch(&app, "").await;
    assert_eq!(status, StatusCode::OK);
    let (_, mut one) = watch(&app, "?match[]=cpu_b{host=%22y%22}").await;
    write(
        &app,
        "cpu,host=x a=1,b=2i 5\ncpu,host=y b=3i,c=t,d=\"<\\\"\" 6",
    )
    .await;
    let found = points(&event(&mut all).await);
    assert_eq!(found.len(), 5);
    assert!(found.contains(
        &json!({ "metric": { "__name__": "cpu_a", "host": "x" }, "time": 0.005, "value": "1" })
    ));
    assert!(found.contains(
        &json!({ "metric": { "__name__": "cpu_c", "host": "y" }, "time": 0.006, "value": true })
    ));
    assert!(
        found
            .iter()
            .any(|point| point["value"] == json!({ "text": "<\"" }))
    );
    let found = points(&event(&mut one).await);
    assert_eq!(
        found,
        [json!({ "metric": { "__name__": "cpu_b", "host": "y" }, "time": 0.006, "value": "3" })]
    );
}

#[tokio::test]
async fn what_is_too_much_is_counted() {
    let app = app().await;
    let (_, mut all) = watch(&app, "").await;
    let lines: Vec<String> = (0..5000).map(|i| format!("m value={i} {i}")).collect();
    write(&app, &lines.join("\n")).await;
    let text = event(&mut all).await;
    assert_eq!(points(&text).len(), 100);
    assert!(
        text.contains("\"dropped\":3996") && text.contains("\"unseen\":904"),
        "{}",
        &text[text.len() - 60..]
    );
}

#[tokio::test]
async fn a_watch_has_a_place_and_can_be_stopped() {
    let app = app().await;
    let (_, mut all) = watch(&app, "?match[]=up").await;
    let running = app.service.running.list();
    assert_eq!(
        (running.len(), running[0].language.name(), &*running[0].text),
        (1, "tail", "up")
    );
    app.service.running.stop(running[0].id).unwrap();
    let last = event(&mut all).await;
    assert!(
        last.starts_with("event: end\n") && last.contains("stopped"),
        "{last}"
    );
    assert!(all.next().await.is_none());
    drop(all);
    while app.service.slots.running() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A client that goes away leaves its place.
    let (_, gone) = watch(&app, "").await;
    assert_eq!(app.service.slots.running(), 1);
    drop(gone);
    while app.service.slots.running() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn bad_selectors_are_refused() {
    let app = app().await;
    for query in [
        "?match[]=up%7B",
        "?match[]=%7Ba=~%22.*%22%7D",
        "?match[]=rate(up[5m])",
    ] {
        assert_eq!(
            watch(&app, query).await.0,
            StatusCode::BAD_REQUEST,
            "{query}"
        );
    }
}
