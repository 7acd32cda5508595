//! Sub-records that are whole, changed, out of range or a liar's.

use libp2p::identity::Keypair;
use proptest::prelude::*;

use super::{
    sealed::{VERSION, signed_message},
    *,
};
use crate::{
    activation::Dtype,
    id::{ModelHash, NodeId, Span},
    limits::MAX_LAYERS,
};

pub(crate) fn offer(span: (u32, u32)) -> ShardOffer {
    ShardOffer {
        model: ModelHash([7; 32]),
        model_name: "smollm2-135m-instruct".into(),
        layers: 30,
        span: Span::new(span.0, span.1).unwrap(),
        dtype: Dtype::F32,
        kernel_class: "cpu-f32-1".into(),
        protocol: 1,
        build: "0.1.0".into(),
        addrs: vec!["/ip4/127.0.0.1/tcp/31330".parse().unwrap()],
        layer_time_ns: 150_000,
        prefill_layer_time_ns: 40_000,
        queue_ns: 0,
        bandwidth_kib_s: 0,
        links: vec![Link { to: LinkTag([9; 8]), rtt_us: 1_500 }],
        free_tokens: 8192,
        price_nano_far: 200_000,
        wallet: Some(Wallet([0x5a; 20])),
        region: "eu".into(),
        device: "cpu".into(),
        device_mib: 4096,
    }
}

fn serves(offer: ShardOffer) -> Claim {
    Claim::Serves(Box::new(offer))
}

fn links(count: usize) -> Vec<Link> {
    (0..count as u8).map(|at| Link { to: LinkTag([at; 8]), rtt_us: MAX_LINK_US }).collect()
}

#[test]
fn links_are_the_first_to_go_where_there_is_no_room() {
    let key = Keypair::generate_ed25519();
    let opened = |offer: ShardOffer| match Sealed::open(b"k", &Sealed::seal(&key, b"k", 1, 1, &serves(offer)).unwrap())
    {
        Ok(Sealed { claim: Claim::Serves(offer), .. }) => offer,
        other => panic!("{other:?}"),
    };
    let full = ShardOffer { links: links(MAX_LINKS), ..offer((0, 10)) };
    assert_eq!(opened(full.clone()).links.len(), MAX_LINKS);
    let long: libp2p::Multiaddr = format!("/dns4/{}/tcp/1", "x".repeat(140)).parse().unwrap();
    let text = "x".repeat(MAX_TEXT_BYTES);
    let long = ShardOffer {
        addrs: vec![long; MAX_ADDRS],
        model_name: text.clone(),
        kernel_class: text.clone(),
        device: text.clone(),
        build: text.clone(),
        region: text,
        ..full
    };
    assert_eq!(opened(long).links, []);
}

#[test]
fn what_was_sealed_opens_under_its_key_alone() {
    let key = Keypair::generate_ed25519();
    for claim in [serves(offer((0, 10))), Claim::Gone(ModelHash([7; 32]))] {
        let bytes = Sealed::seal(&key, b"key", 5, 99, &claim).unwrap();
        let opened = Sealed::open(b"key", &bytes).unwrap();
        assert_eq!(opened, Sealed { peer: key.public().to_peer_id(), seq: 5, expires_unix_s: 99, claim });
        assert_eq!(Sealed::open(b"other", &bytes), Err(AdvertError::Signature));
    }
}

#[test]
fn fields_out_of_range_are_neither_sealed_nor_opened() {
    let key = Keypair::generate_ed25519();
    let good = offer((0, 10));
    let foreign = format!("/ip4/1.2.3.4/tcp/1/p2p/{}", NodeId::random()).parse().unwrap();
    let bad = [
        ShardOffer { model_name: String::new(), ..good.clone() },
        ShardOffer { model_name: "x".repeat(MAX_TEXT_BYTES + 1), ..good.clone() },
        ShardOffer { region: "a\nb".into(), ..good.clone() },
        ShardOffer { layers: 9, ..good.clone() },
        ShardOffer { layers: MAX_LAYERS + 1, ..good.clone() },
        ShardOffer { addrs: vec![good.addrs[0].clone(); MAX_ADDRS + 1], ..good.clone() },
        ShardOffer { queue_ns: MAX_QUEUE_NS + 1, ..good.clone() },
        ShardOffer { links: vec![Link { rtt_us: MAX_LINK_US + 1, ..good.links[0] }], ..good.clone() },
        ShardOffer { links: vec![good.links[0]; 2], ..good.clone() },
        ShardOffer { links: vec![Link { to: LinkTag::of(&key.public().to_peer_id()), rtt_us: 1 }], ..good.clone() },
        ShardOffer { links: links(MAX_LINKS + 1), ..good.clone() },
        ShardOffer { addrs: vec!["/ip4/0.0.0.0/tcp/1".parse().unwrap()], ..good.clone() },
        ShardOffer { addrs: vec!["/memory/5".parse().unwrap()], ..good.clone() },
        ShardOffer { addrs: vec![foreign], ..good.clone() },
    ];
    for offer in bad {
        let claim = serves(offer);
        assert!(matches!(Sealed::seal(&key, b"k", 1, 1, &claim), Err(AdvertError::Field { .. })), "{claim:?}");
        // A liar signs what it likes: the reader finds the same fault.
        let body = postcard::to_stdvec(&claim).unwrap();
        let mut bytes = vec![VERSION];
        bytes.extend(key.public().try_into_ed25519().unwrap().to_bytes());
        bytes.extend([0; 16]);
        bytes.extend((body.len() as u16).to_le_bytes());
        bytes.extend(body);
        let signature = key.sign(&signed_message(b"k", &bytes)).unwrap();
        bytes.extend(signature);
        assert!(matches!(Sealed::open(b"k", &bytes), Err(AdvertError::Field { .. })), "{claim:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_byte_is_always_refused(at in 0usize..4096, flip in 1u8..=255, cut in 0usize..4096) {
        let key = Keypair::ed25519_from_bytes([3; 32]).unwrap();
        let bytes = Sealed::seal(&key, b"key", 1, 2, &serves(offer((10, 20)))).unwrap();
        let mut changed = bytes.clone();
        changed[at % bytes.len()] ^= flip;
        prop_assert!(Sealed::open(b"key", &changed).is_err());
        prop_assert!(Sealed::open(b"key", &bytes[..cut % bytes.len()]).is_err());
        prop_assert!(Sealed::open(b"key", &[&bytes[..], &changed].concat()).is_err());
    }

    #[test]
    fn bytes_of_a_liar_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300), mutate in any::<(usize, u8)>()) {
        // Behind a good signature, the body itself is hostile.
        let key = Keypair::ed25519_from_bytes([3; 32]).unwrap();
        let mut honest = postcard::to_stdvec(&serves(offer((10, 20)))).unwrap();
        let at = mutate.0 % honest.len();
        honest[at] = mutate.1;
        for body in [body, honest] {
            let mut bytes = vec![VERSION];
            bytes.extend(key.public().try_into_ed25519().unwrap().to_bytes());
            bytes.extend([0; 16]);
            bytes.extend((body.len() as u16).to_le_bytes());
            bytes.extend(body);
            let signature = key.sign(&signed_message(b"k", &bytes)).unwrap();
            bytes.extend(signature);
            if let Ok(opened) = Sealed::open(b"k", &bytes) && let Claim::Serves(offer) = opened.claim {
                prop_assert!(offer.check(&opened.peer).is_ok());
            }
        }
    }
}
