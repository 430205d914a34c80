use proptest::prelude::*;

use super::*;

fn message(timestamp: u32, payload: &[u8]) -> Message {
    Message {
        chunk_stream: 6,
        timestamp,
        kind: 9,
        stream: 1,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn written(message: &Message, chunk_size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(message, chunk_size, |part| bytes.extend_from_slice(&part));
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Message>, Error> {
    let mut reader = Reader::default();
    reader.push(bytes);
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message()? {
        messages.push(message);
    }
    Ok(messages)
}

#[test]
fn golden() {
    let bytes = written(&message(0x102, &[7; 130]), 128);
    let mut expected = vec![6, 0, 1, 2, 0, 0, 130, 9, 1, 0, 0, 0];
    expected.extend([7; 128]);
    expected.extend([0xc6, 7, 7]);
    assert_eq!(bytes, expected);
}

#[test]
fn golden_extended_timestamp() {
    let bytes = written(&message(0x0100_0000, &[7; 129]), 128);
    let mut expected = vec![6, 0xff, 0xff, 0xff, 0, 0, 129, 9, 1, 0, 0, 0, 1, 0, 0, 0];
    expected.extend([7; 128]);
    expected.extend([0xc6, 1, 0, 0, 0, 7]);
    assert_eq!(bytes, expected);
    assert_eq!(read(&bytes).unwrap(), [message(0x0100_0000, &[7; 129])]);
    // An encoder that does not repeat the field.
    let bytes = bytes_without(&bytes, 16 + 128 + 1..16 + 128 + 5);
    let mut reader = Reader::default();
    reader.push(&bytes);
    // Its next bytes tell that these are payload.
    reader.push(&written(&message(0, &[1]), 128));
    assert_eq!(
        reader.next_message().unwrap(),
        Some(message(0x0100_0000, &[7; 129]))
    );
}

fn bytes_without(bytes: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    [&bytes[..range.start], &bytes[range.end..]].concat()
}

#[test]
fn headers_of_all_types() {
    let mut bytes = vec![3, 0, 0, 100, 0, 0, 1, 8, 1, 0, 0, 0, b'a'];
    bytes.extend([0x43, 0, 0, 20, 0, 0, 2, 9, b'b', b'c']);
    bytes.extend([0x83, 0, 0, 5, b'd', b'e']);
    bytes.extend([0xc3, b'f', b'g']);
    let seen: Vec<_> = read(&bytes)
        .unwrap()
        .into_iter()
        .map(|m| (m.timestamp, m.kind, m.stream, m.payload))
        .collect();
    assert_eq!(
        seen,
        [
            (100, 8, 1, Bytes::from_static(b"a")),
            (120, 9, 1, Bytes::from_static(b"bc")),
            (125, 9, 1, Bytes::from_static(b"de")),
            (130, 9, 1, Bytes::from_static(b"fg")),
        ]
    );
}

#[test]
fn a_message_of_type_3_after_type_0_adds_its_timestamp() {
    let bytes = [
        &[3, 0, 0, 100, 0, 0, 1, 8, 1, 0, 0, 0, b'a'][..],
        &[0xc3, b'b'],
    ]
    .concat();
    assert_eq!(read(&bytes).unwrap()[1].timestamp, 200);
}

#[test]
fn long_chunk_stream_ids() {
    for (basic, id) in [(&[0, 1][..], 65), (&[1, 1, 1][..], 321)] {
        let bytes = [basic, &[0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]].concat();
        assert_eq!(read(&bytes).unwrap()[0].chunk_stream, id);
    }
}

#[test]
fn interleaved_messages_and_abort() {
    let audio = Message {
        chunk_stream: 4,
        ..message(1, &[1; 200])
    };
    let video = message(2, &[2; 200]);
    let (a, v) = (written(&audio, 128), written(&video, 128));
    let bytes = [&a[..140], &v[..140], &a[140..], &v[140..]].concat();
    assert_eq!(read(&bytes).unwrap(), [audio.clone(), video.clone()]);

    let mut reader = Reader::default();
    reader.push(&a[..140]);
    assert_eq!(reader.next_message(), Ok(None));
    reader.abort(4);
    reader.push(&a);
    assert_eq!(reader.next_message(), Ok(Some(audio)));
    assert_eq!(reader.partial, 0);
}

#[test]
fn limits() {
    let header = |id: u8, len: u32| {
        let [_, a, b, c] = len.to_be_bytes();
        [id, 0, 0, 0, a, b, c, 9, 1, 0, 0, 0]
    };
    assert_eq!(read(&header(6, MAX_MESSAGE as u32)), Ok(vec![]));
    assert_eq!(
        read(&header(6, MAX_MESSAGE as u32 + 1)),
        Err(Error::MessageSize {
            kind: 9,
            len: MAX_MESSAGE + 1
        })
    );
    let streams = |n: usize| {
        let headers: Vec<_> = (0..n)
            .flat_map(|i| [&[0, i as u8][..], &header(0, 0)[1..]].concat())
            .collect();
        read(&headers)
    };
    assert_eq!(streams(MAX_CHUNK_STREAMS).unwrap().len(), MAX_CHUNK_STREAMS);
    assert_eq!(
        streams(MAX_CHUNK_STREAMS + 1),
        Err(Error::ChunkStreams(64 + 64))
    );
    assert_eq!(read(&[0xc6]), Err(Error::NoHeader { stream: 6, fmt: 3 }));
    let mut reader = Reader::default();
    assert_eq!(reader.set_chunk_size(0), Err(Error::ChunkSize(0)));
    assert_eq!(reader.set_chunk_size(0x7fff_ffff), Ok(()));
    // Three messages of 4 MB, none of them finished.
    reader.set_chunk_size(MAX_MESSAGE as u32 - 1).unwrap();
    for id in 3..6 {
        reader.push(&header(id, MAX_MESSAGE as u32));
        reader.push(&vec![0; MAX_MESSAGE - 1]);
    }
    assert_eq!(reader.next_message(), Err(Error::Partial));
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let one = (
        2u32..64,
        any::<u32>(),
        any::<u8>(),
        any::<u32>(),
        0usize..400,
    )
        .prop_map(|(chunk_stream, timestamp, kind, stream, len)| Message {
            chunk_stream,
            timestamp,
            kind,
            stream,
            payload: vec![kind; len].into(),
        });
    proptest::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn round_trip_however_the_bytes_are_split(
        messages in messages(),
        chunk_size in 1usize..300,
        splits in proptest::collection::vec(1usize..200, 1..20),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|m| written(m, chunk_size)).collect();
        let mut reader = Reader::default();
        reader.set_chunk_size(chunk_size as u32).unwrap();
        let mut seen = Vec::new();
        let mut left = &bytes[..];
        for split in splits.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (part, rest) = left.split_at((*split).min(left.len()));
            reader.push(part);
            left = rest;
            while let Some(message) = reader.next_message().unwrap() {
                seen.push(message);
            }
        }
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes);
    }
}
