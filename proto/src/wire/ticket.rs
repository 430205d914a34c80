//! Room tickets: what a controller allows a node to do in a room (WIRE.md, "Tickets").

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bytes::{BufMut, Bytes, BytesMut};

use super::{
    codec::{Error, Reader, Writer},
    control::{MAX_TICKET, get_room, put_room},
};
use crate::ids::{NodeId, RoomName};

const VERSION: u8 = 1;
const SIGNATURE_LEN: usize = 64;
/// Most countries a residency set may name: with the longest names the ticket stays below
/// [`MAX_TICKET`].
pub const MAX_COUNTRIES: usize = 32;

/// May subscribe to tracks of the room.
pub const SUBSCRIBE: u8 = 1;
/// May publish tracks in the room.
pub const PUBLISH: u8 = 2;
/// May call the relays that keep the room's log.
pub const CALL: u8 = 4;

/// What is allowed, to whom, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The room.
    pub room: RoomName,
    /// A set of [`SUBSCRIBE`], [`PUBLISH`], [`CALL`].
    pub verbs: u8,
    /// The countries that the room's tracks may cross (ISO 3166-1 alpha-2); empty: all.
    pub residency: Vec<[u8; 2]>,
    /// The policy class, below 64.
    pub policy: u8,
    /// The node it was given to.
    pub node: NodeId,
    /// Unix time in seconds after which nothing new may begin with it.
    pub expires: u64,
}

impl Ticket {
    /// The signed ticket.
    pub fn sign(&self, key: &Ed25519KeyPair) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        put_room(&mut out, &self.room);
        out.put_u8(self.verbs);
        out.varint(self.residency.len() as u64);
        for country in &self.residency {
            out.put_slice(country);
        }
        out.put_u8(self.policy);
        out.prefixed(self.node.as_bytes());
        out.varint(self.expires);
        let signature = key.sign(&out);
        out.put_slice(signature.as_ref());
        debug_assert!(out.len() <= MAX_TICKET);
        out.freeze()
    }

    /// Checks the signature and reads the ticket. Expiry, node and room are the caller's to
    /// compare.
    pub fn verify(signed: Bytes, public_key: &[u8]) -> Result<Ticket, Error> {
        if signed.len() > MAX_TICKET {
            let (value, limit) = (signed.len() as u64, MAX_TICKET as u64);
            return Err(Error::Limit {
                what: "ticket",
                value,
                limit,
            });
        }
        let Some(body_len) = signed.len().checked_sub(SIGNATURE_LEN) else {
            return Err(Error::Short { what: "ticket" });
        };
        let (body, signature) = signed.split_at(body_len);
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(body, signature)
            .map_err(|_| Error::Forged {
                what: "ticket's signature",
            })?;
        let mut r = Reader::new(signed.slice(..body_len));
        match r.u8("ticket version")? {
            VERSION => {}
            value => {
                return Err(Error::Unknown {
                    what: "ticket version",
                    value: value.into(),
                });
            }
        }
        Ok(Ticket {
            room: get_room(&mut r)?,
            verbs: r.u8("verbs")?,
            residency: {
                let count = r.varint_up_to("residency", MAX_COUNTRIES as u64)?;
                (0..count)
                    .map(|_| r.array("country"))
                    .collect::<Result<_, _>>()?
            },
            policy: r.u8("policy")?,
            node: r.name("node")?,
            expires: r.varint("expiry")?,
        })
    }
}

/// The public half of a signing key, as nodes are told it.
pub fn public_key(key: &Ed25519KeyPair) -> Bytes {
    Bytes::copy_from_slice(key.public_key().as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::ids::{Room, Tenant};

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
    }

    fn ticket() -> Ticket {
        Ticket {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("r").unwrap(),
            },
            verbs: SUBSCRIBE | CALL,
            residency: vec![*b"CN", *b"HK"],
            policy: 2,
            node: NodeId::new("sg-edge-1").unwrap(),
            expires: 1_000_000,
        }
    }

    #[test]
    fn golden_bytes() {
        let signed = ticket().sign(&key());
        let body = &signed[..signed.len() - SIGNATURE_LEN];
        assert_eq!(
            body,
            b"\x01\x07default\x01r\x05\x02CNHK\x02\x09sg-edge-1\x80\x0f\x42\x40"
        );
        assert_eq!(
            signed,
            ticket().sign(&key()),
            "Ed25519 is deterministic (RFC 8032 §5.1.6)"
        );
    }

    #[test]
    fn another_key_or_a_changed_byte_is_refused() {
        let signed = ticket().sign(&key());
        let public = public_key(&key());
        assert_eq!(Ticket::verify(signed.clone(), &public), Ok(ticket()));
        let other = public_key(&Ed25519KeyPair::from_seed_unchecked(&[4; 32]).unwrap());
        let forged = Error::Forged {
            what: "ticket's signature",
        };
        assert_eq!(Ticket::verify(signed.clone(), &other), Err(forged.clone()));
        for at in 0..signed.len() {
            let mut bad = signed.to_vec();
            bad[at] ^= 1;
            assert_eq!(
                Ticket::verify(bad.into(), &public),
                Err(forged.clone()),
                "byte {at}"
            );
        }
    }

    #[test]
    fn the_longest_ticket_is_within_the_limit() {
        let long = Ticket {
            room: RoomName {
                tenant: Tenant::new(&"t".repeat(Tenant::MAX_LEN)).unwrap(),
                room: Room::new(&"r".repeat(Room::MAX_LEN)).unwrap(),
            },
            residency: vec![*b"CN"; MAX_COUNTRIES],
            node: NodeId::new(&"n".repeat(NodeId::MAX_LEN)).unwrap(),
            expires: super::super::MAX_VARINT,
            ..ticket()
        };
        let signed = long.sign(&key());
        assert!(signed.len() <= MAX_TICKET, "{}", signed.len());
        assert_eq!(Ticket::verify(signed, &public_key(&key())), Ok(long));
    }

    proptest! {
        #[test]
        fn tickets_come_back(
            room in "[A-Za-z0-9._~-]{1,128}", verbs: u8, residency in vec(any::<[u8; 2]>(), 0..=MAX_COUNTRIES),
            policy: u8, node in "[a-z0-9-]{1,63}", expires in 0u64..1 << 62,
        ) {
            let room = RoomName { tenant: Tenant::default_tenant(), room: Room::new(&room).unwrap() };
            let ticket = Ticket { room, verbs, residency, policy, node: NodeId::new(&node).unwrap(), expires };
            prop_assert_eq!(Ticket::verify(ticket.sign(&key()), &public_key(&key())), Ok(ticket));
        }

        /// Behind a good signature too.
        #[test]
        fn any_signed_bytes_are_answered(body in vec(any::<u8>(), 0..400)) {
            let signature = key().sign(&body);
            let _ = Ticket::verify([&body, signature.as_ref()].concat().into(), &public_key(&key()));
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..600)) {
            let _ = Ticket::verify(bytes.into(), &public_key(&key()));
        }
    }
}
