//! The admin token.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::{App, Failure};

/// Lets only requests with the admin token pass.
pub async fn guard(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    check(request.headers(), &app.token)?;
    Ok(next.run(request).await)
}

fn check(headers: &HeaderMap, token: &str) -> Result<(), Failure> {
    let refused = |message| {
        metrics::counter!("longspan_rejected_total", "reason" => "admin_token").increment(1);
        Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            message,
        ))
    };
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        return refused("the admin token is missing: Authorization: Bearer TOKEN");
    };
    // RFC 9110 §11.1: the scheme's case does not matter.
    let given = header.to_str().ok().and_then(|header| {
        let (scheme, given) = header.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(given.trim())
    });
    let Some(given) = given else {
        return refused("the Authorization header is not Bearer TOKEN");
    };
    // Takes as long for every token of the right length.
    match verify_slices_are_equal(given.as_bytes(), token.as_bytes()) {
        Ok(()) => Ok(()),
        Err(_) => refused("the admin token is wrong"),
    }
}
