//! What the driver reads of a packet.

use std::net::Ipv4Addr;

/// Whither a packet goes and how large it is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its destination.
    pub to: Ipv4Addr,
    /// Bytes after the IP header.
    pub payload: usize,
}

impl Header {
    /// Reads an IPv4 header (RFC 791 §3.1); `None` for anything else.
    pub fn parse(packet: &[u8]) -> Option<Header> {
        let (fixed, _) = packet.split_first_chunk::<20>()?;
        let header = usize::from(fixed[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let sound = fixed[0] >> 4 == 4 && header >= 20 && header <= total && total <= packet.len();
        sound.then(|| Header {
            to: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
            payload: total - header,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[3] = 28;
        packet[16..20].copy_from_slice(&[10, 77, 0, 2]);
        packet
    }

    #[test]
    fn a_header_is_read_and_anything_else_is_not() {
        let header = Header {
            to: Ipv4Addr::new(10, 77, 0, 2),
            payload: 8,
        };
        assert_eq!(Header::parse(&packet()), Some(header));
        // Four bytes of options belong to the header.
        let mut options = packet();
        options[0] = 0x46;
        assert_eq!(
            Header::parse(&options).map(|header| header.payload),
            Some(4)
        );
        for (byte, value) in [(0, 0x60), (0, 0x44), (0, 0x48), (3, 29), (3, 19)] {
            let mut wrong = packet();
            wrong[byte] = value;
            assert_eq!(Header::parse(&wrong), None, "byte {byte} is {value}");
        }
        assert_eq!(Header::parse(&packet()[..19]), None);
        assert_eq!(Header::parse(&[]), None);
    }
}
