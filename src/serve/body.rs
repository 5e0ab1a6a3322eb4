//! Bodies of requests: no more bytes than allowed, from no slower a sender than can be waited for.

use crate::serve::app::App;
use crate::serve::refusal::{Kind, Refusal};
use axum::body::Body;
use http_body::Body as _;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A body that was read; its memory counts until this is dropped.
pub(crate) struct Bytes {
    pub(crate) bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// Reads a body.
///
/// # Errors
/// One that is too large, for a request or with those of others, or that does not come.
pub(crate) async fn read(app: &App, mut body: Body) -> Result<Bytes, Refusal> {
    let (most, silence) = (app.options.max_body, app.options.body_timeout);
    let too_large = || {
        let message = format!("the body has more than {most} bytes: send fewer texts at once");
        Refusal::new(Kind::TooLarge, message)
    };
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut permit = allow(app, 1)?;
    let mut allowed = App::BODY_UNIT;
    loop {
        let frame = tokio::time::timeout(silence, body.frame()).await.map_err(|_| {
            let message =
                format!("nothing came for {} s: the rest of the body was not waited for", silence.as_secs_f64());
            Refusal::new(Kind::Slow, message)
        })?;
        let Some(frame) = frame else { return Ok(Bytes { bytes, _permit: permit }) };
        let frame = frame.map_err(|error| {
            let mut message = format!("the body cannot be read: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                message += &format!(": {error}");
                source = error.source();
            }
            Refusal::new(Kind::Invalid, message)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let size = (bytes.len() + data.len()) as u64;
        if size > most {
            return Err(too_large());
        }
        if size > allowed {
            let units = (size - allowed).div_ceil(App::BODY_UNIT);
            permit.merge(allow(app, units as u32)?);
            allowed += units * App::BODY_UNIT;
        }
        bytes.extend_from_slice(&data);
    }
}

/// Memory for so many units more.
fn allow(app: &App, units: u32) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&app.bodies).try_acquire_many_owned(units).map_err(|_| {
        let message = "requests in flight take all the memory that they may: try again when some are done";
        Refusal::new(Kind::Overloaded, message).retry_after(Duration::from_secs(1))
    })
}
