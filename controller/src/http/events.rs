//! `GET /api/v1/events`: what happens, as server-sent events (WHATWG HTML §9.2).

use std::convert::Infallible;

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::Stream;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::App;

/// One event each; a reader that lags is told how many it missed.
pub async fn events(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = app.handle.events.subscribe();
    let stream = futures_util::stream::unfold(
        (events, app.shutdown.clone()),
        |(mut events, shutdown)| async move {
            let told = tokio::select! {
                () = shutdown.cancelled() => return None,
                told = events.recv() => told,
            };
            let json = match told {
                Ok(event) => event.to_string(),
                Err(RecvError::Lagged(missed)) => {
                    json!({"t": "lagged", "missed": missed}).to_string()
                }
                Err(RecvError::Closed) => return None,
            };
            Some((Ok(Event::default().data(json)), (events, shutdown)))
        },
    );
    Sse::new(stream).keep_alive(KeepAlive::default())
}
