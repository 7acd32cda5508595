use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    activation::ActivationError,
    id::{ModelHash, NodeId, SessionId, Span},
    limits::MAX_FRAME_BYTES,
    peer::wire::{Next, PROTOCOL_VERSION, Source},
};

const SESSION: u64 = 0x1122_3344_5566_7788;

fn rows() -> impl Strategy<Value = Rows> {
    prop_oneof![Just(Rows::None), Just(Rows::Last), Just(Rows::All)]
}

fn activation() -> impl Strategy<Value = Activation> {
    let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::Bf16)];
    (1..=6_usize, 1..=40_usize, dtype, any::<u8>()).prop_map(|(tokens, hidden, dtype, fill)| {
        Activation::new(tokens, hidden, dtype, vec![fill; tokens * hidden * dtype.bytes()].into()).unwrap()
    })
}

fn open() -> impl Strategy<Value = Open> {
    let node = any::<[u8; 32]>().prop_map(|seed| {
        libp2p::identity::Keypair::ed25519_from_bytes(seed).map(|key| key.public().to_peer_id()).unwrap()
    });
    let addrs = vec(any::<u16>().prop_map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()), 0..=MAX_ADDRS);
    let source = prop_oneof![Just(Source::Coordinator), node.clone().prop_map(Source::Peer)];
    let next = proptest::option::of((node, addrs).prop_map(|(node, addrs)| Next { node, addrs }));
    (any::<u8>(), "[ -~]{0,20}", any::<[u8; 16]>(), any::<[u8; 32]>(), 0..100_u32, any::<u32>(), source, next).prop_map(
        |(protocol, build, session, model, start, context_tokens, source, next)| Open {
            protocol,
            build,
            session: SessionId(session),
            model: ModelHash(model),
            span: Span::new(start, start + 3).unwrap(),
            dtype: Dtype::Bf16,
            context_tokens,
            source,
            next,
            answered: context_tokens.into(),
            submitted: u64::from(context_tokens) * 2,
        },
    )
}

fn frame() -> impl Strategy<Value = Frame> {
    let input =
        prop_oneof![vec(any::<u32>(), 1..=64).prop_map(Input::Tokens), activation().prop_map(Input::Activation)];
    let step = (any::<u64>(), any::<u32>(), input, rows())
        .prop_map(|(seq, position, input, output)| Frame::Step(Step { seq, position, input, output }));
    let output = (any::<u64>(), proptest::option::of(activation()))
        .prop_map(|(seq, output)| Frame::Output(Done { seq, output }));
    let state = any::<(u64, u64, u64, u64, u64)>().prop_map(|(probe, received, finished, received_bytes, busy)| {
        Frame::State(State { probe, received, finished, received_bytes, busy })
    });
    let tally = any::<(u64, u64, u64)>()
        .prop_map(|(tokens, steps, compute_us)| Frame::Tally(Tally { tokens, steps, compute_us }));
    let fault = prop_oneof![
        "\\PC{0,300}".prop_map(Fault::Refused),
        "\\PC{0,300}".prop_map(|reason| Fault::PeerLost { node: NodeId::random(), reason }),
        any::<(u64, u64)>().prop_map(|(needed_tokens, free_tokens)| Fault::Full { needed_tokens, free_tokens }),
        Just(Fault::Closed),
    ];
    prop_oneof![
        step,
        output,
        any::<u64>().prop_map(|number| Frame::Probe { number }),
        state,
        open().prop_map(|open| Frame::Open(Box::new(open))),
        any::<[u8; 16]>().prop_map(|id| Frame::Attach(Attach { session: SessionId(id) })),
        tally,
        fault.prop_map(Frame::Fault),
        Just(Frame::Opened),
        any::<u64>().prop_map(|next_seq| Frame::Attached { next_seq }),
        (open(), any::<u64>()).prop_map(|(open, number)| {
            let source = open.next.as_ref().map(|next| next.node);
            Frame::Reroute(Box::new(Reroute { number, source, next: open.next }))
        }),
        any::<(u64, bool)>().prop_map(|(number, attached)| Frame::Rerouted(Rerouted { number, attached })),
        "\\PC{0,300}".prop_map(|reason| Frame::Lost(Lost { node: NodeId::random(), reason, number: 1 })),
        Just(Frame::Close),
    ]
}

fn parse(bytes: &[u8]) -> Option<Result<Frame, FrameError>> {
    let (header, payload) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = match Header::parse(header) {
        Ok(header) => header,
        Err(error) => return Some(Err(error)),
    };
    assert!(header.payload_bytes + HEADER_BYTES <= MAX_FRAME_BYTES);
    let payload = payload.get(..header.payload_bytes)?;
    Some(Frame::decode(&header, Bytes::copy_from_slice(payload)))
}

fn to_bytes(frame: Frame) -> Vec<u8> {
    let (header, payload) = frame.encode(SESSION).unwrap();
    [&header[..], &payload].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_survive_the_wire(frame in frame()) {
        let bytes = to_bytes(frame.clone());
        let read = parse(&bytes).unwrap().unwrap();
        prop_assert_eq!(format!("{:?}", read), format!("{:?}", frame));
        prop_assert_eq!(to_bytes(read), bytes);
    }

    /// A changed byte gives another frame or an error, never a panic; what is accepted is encoded as it came.
    #[test]
    fn mutated_frames_are_refused_or_other_frames(
        frame in frame(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = to_bytes(frame);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(Ok(read)) = parse(&bytes) {
            prop_assert!(read.clone().encode(SESSION).is_ok(), "{:?}", read);
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(mut bytes in vec(any::<u8>(), 0..200), kind in 0..14_u8) {
        if let [_, _, _, _, version, its_kind, rows, dtype, ..] = bytes.as_mut_slice() {
            (*version, *its_kind) = (PROTOCOL_VERSION, kind);
            (*rows, *dtype) = (*rows % 4, *dtype % 4);
        }
        let _ = parse(&bytes);
    }

    #[test]
    fn bodies_of_any_kind_never_panic(body in vec(any::<u8>(), 1..400), kind in 0..12_usize) {
        let kind = Kind::ALL[kind];
        let header = Header {
            kind, session: SESSION, payload_bytes: body.len(), rows: Rows::None, dtype: Dtype::F32, seq: 0,
            position: 0, tokens: 0, hidden: 0,
        };
        let _ = Frame::decode(&header, body.into());
    }
}

#[test]
fn every_field_of_a_header_is_checked() {
    let step = |tokens: usize| {
        Frame::Step(Step { seq: 3, position: 9, input: Input::Tokens(vec![1; tokens]), output: Rows::Last })
    };
    assert!(matches!(step(0).encode(SESSION), Err(FrameError::Tokens { got: 0 })));
    assert!(matches!(step(513).encode(SESSION), Err(FrameError::Tokens { got: 513 })));
    let good = to_bytes(step(2));
    let cases: [(usize, &[u8], &str); 9] = [
        (0, &41_u32.to_le_bytes(), "frame of 41 bytes, must be 40 to 40"),
        (0, &[0; 4], "frame of 0 bytes"),
        (4, &[0], "protocol version 0"),
        (5, &[99], "kind of a frame is 99"),
        (6, &[3], "rows of a frame is 3"),
        (7, &[3], "dtype of a frame is 3"),
        (7, &[1], "dtype of a frame is 1"),
        (28, &0_u32.to_le_bytes(), "step of 0 tokens"),
        (32, &1_u32.to_le_bytes(), "hidden of a frame is 1"),
    ];
    for (at, value, want) in cases {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        let error = parse(&bytes).unwrap().unwrap_err().to_string();
        assert!(error.contains(want), "{error} is not {want}");
    }
}

#[test]
fn shapes_whose_size_overflows_are_refused() {
    let mut bytes = [0; HEADER_BYTES];
    bytes[4..6].copy_from_slice(&[PROTOCOL_VERSION, Kind::Activation as u8]);
    bytes[28..36].copy_from_slice(&[0xFF; 8]);
    assert!(matches!(Header::parse(&bytes), Err(FrameError::Activation(ActivationError::Shape { .. }))));
}

#[test]
fn a_body_with_bytes_after_its_end_is_refused() {
    let mut bytes = to_bytes(Frame::Tally(Tally::default()));
    bytes.push(0);
    bytes[0] += 1;
    let error = parse(&bytes).unwrap().unwrap_err();
    assert!(error.to_string().contains("1 bytes too many"), "{error}");
}
