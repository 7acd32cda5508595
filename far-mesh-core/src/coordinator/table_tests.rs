//! Which nodes are used: measured, lost, and back again.

use super::*;
use crate::{
    id::Span,
    peer::{Config, Keypair, ShardOffer, offer},
};

fn advert(peer: NodeId, seq: u64) -> Advert {
    let span = Span::new(0, 1).unwrap();
    let shard = ShardOffer {
        model: ModelHash([7; 32]),
        layers: 1,
        span,
        addrs: vec![],
        links: vec![],
        region: String::new(),
        ..offer((0, 1))
    };
    Advert { peer, seq, expires_unix_s: u64::MAX, shard }
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_back_when_it_answers_and_asked_more_rarely_each_time() {
    let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
    let (table, peer) = (Table::new(node.clone(), ModelHash([7; 32]), None), NodeId::random());
    let announce = |seq| drop(table.adverts.send_replace(Some(vec![advert(peer, seq)])));
    let usable = || !table.adverts().is_empty();
    announce(1);
    for (seq, seconds) in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30)] {
        table.set_aside(peer);
        // Another session loses it too.
        table.set_aside(peer);
        announce(seq);
        assert!(!usable(), "what it says costs it nothing, and may be of just before the loss");
        tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
        assert!(table.due().is_empty(), "{seconds} s");
        tokio::time::advance(Duration::from_millis(1)).await;
        let asked = table.due().remove(0);
        assert_eq!((asked.node, usable()), (peer, false), "{seconds} s");
        table.answered(peer, asked.since);
        assert!(usable() && table.due().is_empty(), "{seconds} s");
    }
    tokio::time::advance(SET_ASIDE).await;
    table.set_aside(peer);
    assert_eq!(table.due().len(), 0);
    announce(7);
    assert_eq!((table.due().len(), usable()), (1, false), "it behaved for a while, and was perhaps started again");
    // An answer to a question from before it was lost once more is none.
    let since = table.due().remove(0).since;
    tokio::time::advance(Duration::from_secs(1)).await;
    table.set_aside(peer);
    table.answered(peer, since);
    assert!(!usable());
    node.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_that_says_nothing_new_stays_out_for_as_long_as_its_advert_lives() {
    let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
    let (table, dead, alive) = (Table::new(node.clone(), ModelHash([7; 32]), None), NodeId::random(), NodeId::random());
    let announce = |adverts| drop(table.adverts.send_replace(Some(adverts)));
    let usable = || table.adverts().iter().map(|advert| advert.peer).collect::<Vec<_>>();
    let due = || table.due().iter().map(|due| due.node).collect::<Vec<_>>();
    announce(vec![advert(dead, 1), advert(alive, 1)]);
    table.set_aside(dead);
    tokio::time::advance(SET_ASIDE - Duration::from_millis(1)).await;
    assert_eq!((usable(), due()), (vec![alive], vec![dead]));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!((usable(), due()), (vec![alive], vec![]), "it is taken to be gone");
    announce(vec![advert(alive, 3)]);
    assert_eq!(usable(), [alive]);
    announce(vec![advert(dead, 1), advert(alive, 3)]);
    assert_eq!((usable(), due()), (vec![alive], vec![]), "a look that missed it changes nothing");
    announce(vec![advert(dead, 2), advert(alive, 3)]);
    assert_eq!((usable(), due()), (vec![alive], vec![dead]), "perhaps it was started again");
    let asked = table.due().remove(0);
    table.silent(dead, asked.since, asked.seq);
    assert_eq!(due(), [], "once for each thing it says");
    tokio::time::advance(Duration::from_secs(MAX_LIFE_S)).await;
    announce(vec![advert(dead, 3), advert(alive, 3)]);
    assert_eq!((usable(), due()), (vec![alive], vec![dead]), "whoever says much and answers nobody stays out");
    announce(vec![advert(alive, 3)]);
    assert_eq!((usable(), lock(&table.aside).len()), (vec![alive], 0), "what no advert can speak of is forgotten");
    node.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_of_a_node_is_in_its_offer() {
    let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
    let (table, peer) = (Table::new(node.clone(), ModelHash([7; 32]), Some("eu-west".into())), NodeId::random());
    let announce = |seq, region: &str| {
        let mut advert = advert(peer, seq);
        advert.shard.region = region.into();
        drop(table.adverts.send_replace(Some(vec![advert])));
        table.judge_claims();
        let offer = table.offers().remove(0);
        (offer.slowdown_percent, offer.rtt, offer.region_refuted)
    };
    assert_eq!(announce(1, "ap-northeast"), (100, None, false));
    table.slow(peer, 4.0);
    let rtt = Some(Duration::from_millis(2));
    lock(&table.ways).insert(peer, Way { rtt, at: Instant::now() });
    assert_eq!(announce(2, "ap-northeast"), (400, rtt, true));
    assert_eq!(table.refuted(), HashSet::from([peer]));
    // It answers late from now on, and is not believed for that; another claim is judged anew.
    lock(&table.ways).insert(peer, Way { rtt: Some(Duration::from_millis(300)), at: Instant::now() });
    assert!(announce(3, "ap-northeast").2 && !announce(4, "eu-central").2);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(announce(5, "eu-central").0, 100);
    node.shutdown().await;
}
