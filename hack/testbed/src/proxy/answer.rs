//! Answers of the proxy itself.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::json;

use super::early_requests::ASKED;
use super::{Body, Cut};

/// Returns a body from memory.
pub fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// Returns a rejection in the form of the API server.
pub fn refusal(code: u16) -> Result<Response<Body>, Cut> {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    refusal_for(code, reason)
}

/// Returns the answer to a create whose object exists already.
pub fn already_exists() -> Result<Response<Body>, Cut> {
    refusal_for(409, "AlreadyExists")
}

fn refusal_for(code: u16, reason: &str) -> Result<Response<Body>, Cut> {
    let status = StatusCode::from_u16(code).map_err(|_| Cut)?;
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("planned fault: {code}"), "reason": reason, "code": code,
    });
    let mut answer = json_answer(status, Bytes::from(text.to_string()))?;
    if code == 429 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ASKED.as_secs()));
    }
    Ok(answer)
}

/// Returns an answer with a JSON body.
pub fn json_answer(status: StatusCode, body: Bytes) -> Result<Response<Body>, Cut> {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}
