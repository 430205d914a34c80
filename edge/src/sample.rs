//! A publisher inside the edge that plays a file again and again: what `longspan up` shows before
//! anybody else publishes.

use std::time::Duration;

use bytes::Bytes;
use longspan_proto::ids::{Generation, RoomName, Stream};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Access,
    clock::wall_micros,
    edge::Handle,
    flv::{Loop, LoopError, Tag, tag_type},
    media::Kind,
    publish::{Fate, MediaError, Publication},
    rtmp::amf0,
};

/// The identity it claims its stream with.
pub const IDENTITY: &str = "sample";

/// The first and the longest wait before it claims its stream again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Publishes the FLV file in `file` as `stream` in `room` until `stop` is cancelled, in real time
/// and without a jump where it begins anew. Claims the stream like any other publisher; when it
/// is refused, or another one takes the stream over, tries again.
pub async fn run(
    edge: Handle,
    room: RoomName,
    stream: Stream,
    file: Bytes,
    stop: CancellationToken,
) -> Result<(), LoopError> {
    // Refused now rather than at each try.
    Loop::new(&file, None)?;
    let mut wait = RETRY.0;
    let running = async {
        loop {
            // It is nobody whom a drain may cost anything: it goes, and comes back.
            edge.shared().doors.opened().await;
            match publish(&edge, &room, &stream, &file).await {
                Ok(generation) => {
                    tracing::info!(%room, %stream, %generation, "the sample lost its stream");
                    wait = RETRY.0;
                }
                Err(why) => {
                    tracing::warn!(%room, %stream, why, "the sample is not published");
                    wait = (wait * 2).min(RETRY.1);
                }
            }
            sleep(wait).await;
        }
    };
    stop.run_until_cancelled(running).await;
    Ok(())
}

/// Publishes from the file's start until the stream is another's, or nobody's.
async fn publish(
    edge: &Handle,
    room: &RoomName,
    stream: &Stream,
    file: &[u8],
) -> Result<Generation, String> {
    let mut lesson = Loop::new(file, None).map_err(|error| error.to_string())?;
    let access = Access {
        room: room.clone(),
        identity: IDENTITY.to_owned(),
        grants: crate::grants::Grants::Nothing,
        hidden: false,
        expires: None,
    };
    let claimed = edge.shared().claim(&access, stream.clone(), "sample").await;
    let mut publication = claimed.map_err(|refused| refused.to_string())?;
    let begun = Instant::now();
    loop {
        let (due, tag) = lesson.next_tag();
        tokio::select! {
            fate = publication.fate() => match fate {
                Fate::Superseded(newer) => return Ok(newer),
                Fate::Forgotten => return Ok(publication.generation()),
            },
            () = sleep_until(begun + due) => {}
            () = edge.shared().doors.closing() => {
                let generation = publication.generation();
                publication.release().await;
                return Ok(generation);
            }
        }
        if let Err(error) = take(&mut publication, tag) {
            publication.release().await;
            return Err(error.to_string());
        }
    }
}

fn take(publication: &mut Publication, tag: Tag) -> Result<(), MediaError> {
    let kind = match tag.tag_type {
        tag_type::VIDEO => Kind::Video,
        tag_type::AUDIO => Kind::Audio,
        tag_type::SCRIPT => {
            if let Ok([name, metadata, ..]) = amf0::decode(&tag.body).as_deref()
                && name.as_str() == Some("onMetaData")
                && let Value::Object(metadata) = metadata.to_json()
            {
                publication.metadata(metadata, wall_micros())?;
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    publication.media(kind, tag.timestamp, tag.body, wall_micros())
}
