//! What other nodes send an edge: frame payloads and catalogs; and the decoder configs in them.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longspan_edge::{
    flv, fmp4, hls,
    media::{Catalog, Kind, Sample, aac, h264},
};
use longspan_proto::wire::{Flags, Frame, Priority};

fuzz_target!(|data: &[u8]| {
    let Some((what, data)) = data.split_first() else { return };
    match what % 5 {
        0 => {
            let frame = Frame {
                timestamp: 1_000_000,
                flags: Flags::default(),
                priority: Priority::VideoDelta,
                payload: Bytes::copy_from_slice(data),
            };
            let Ok(sample) = Sample::from_frame(Kind::Video, &frame) else { return };
            sample.presentation();
            flv::sample_body(&sample);
            let again = sample.to_frame().expect("it came out of a frame");
            assert_eq!(Sample::from_frame(Kind::Video, &again), Ok(sample));
        }
        1 => {
            let Ok(catalog) = Catalog::decode(data) else { return };
            fmp4::init(&catalog);
            flv::Muxer::new(&catalog).header();
            // Numbers of a float's last digit may come back another; the rest must not.
            if let Ok(bytes) = catalog.encode() {
                let again = Catalog::decode(&bytes).expect("ours");
                assert_eq!(again.codecs(), catalog.codecs());
            }
        }
        2 => {
            if let Ok(config) = h264::Config::parse(data) {
                config.codec();
                config.is_discardable(data);
            }
        }
        3 => {
            if let Ok(config) = aac::Config::parse(data) {
                config.codec();
                config.frame_duration();
            }
        }
        _ => {
            let Ok(file) = std::str::from_utf8(data) else { return };
            if let Some(name) = hls::Name::parse(file) {
                assert_eq!(name.to_string(), file);
            }
        }
    }
});
