//! Who takes the place of a lost hop: one after the other, a wider one, several smaller ones, or somebody who comes later.

use super::*;

/// A mesh in which the node of the first hop has the layers of the second too, which nobody else has.
fn with_a_wide_neighbour() -> Mesh {
    let mut mesh = Mesh::with(&CUTS, ServeConfig::default(), |at, mock| {
        if at == 0 {
            mock.span = Span::new(0, 2).unwrap();
        }
    });
    mesh.hops[1].kernel_class = "another".to_owned();
    mesh.spares = [(0, 0, 2), (2, 2, 3)]
        .map(|(at, start, end)| RemoteHop { span: Span::new(start, end).unwrap(), ..mesh.hops[at].clone() })
        .into();
    mesh
}

#[tokio::test(start_paused = true)]
async fn a_hop_beside_the_lost_one_may_be_the_only_one_that_serves_its_layers() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    for way in [Way::Vanishes, Way::FallsSilent] {
        for step in [1, 4, 20, 31] {
            let mut mesh = with_a_wide_neighbour();
            let (route, spares) = mesh.mended();
            let mut session = route.open(mesh.request()).await.unwrap();
            let disturbed = run(session.as_mut(), 5, |seq| {
                if seq == step {
                    lose(&mut mesh, 1, way);
                }
            });
            let (outputs, pause) = disturbed.await.unwrap_or_else(|e| panic!("{way:?} {step}: {e}"));
            assert!(outputs == alone, "{way:?} before step {step}");
            assert!(pause < Duration::from_millis(1100), "{way:?} before step {step}: {pause:?}");
            session.close().await.unwrap();
            let asked = spares.asked.lock().unwrap();
            let [.., narrow, wide] = &asked[..] else { panic!("{asked:?}") };
            assert_eq!((narrow.leaving.len(), narrow.kernel_class.as_deref()), (0, Some("another")));
            // Nobody gives the bits of both.
            assert_eq!((wide.leaving.contains(&mesh.node(0)), wide.kernel_class.as_deref()), (true, None));
            assert!(!wide.without.contains(&mesh.node(0)) && wide.without.contains(&mesh.node(1)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_while_it_is_waited_may_take_more_than_the_lost_layers() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    let mut mesh = with_a_wide_neighbour();
    mesh.late = vec![mesh.spares.remove(0)];
    let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
    let disturbed = run(session.as_mut(), 5, |seq| {
        if seq == 10 {
            lose(&mut mesh, 1, Way::Vanishes);
        }
    });
    assert!(disturbed.await.unwrap().0 == alone);
}

/// Adverts outlive who dies: many may be tried of whom nobody is there any more.
#[tokio::test(start_paused = true)]
async fn dozens_that_are_gone_do_not_use_up_the_repairs() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    let mut mesh = Mesh::new(&CUTS);
    for _ in 0..40 {
        mesh = mesh.and_spares(&[1, 2], ServeConfig::default(), |_, _| {});
    }
    for at in 3..42 {
        drop(std::mem::replace(&mut mesh.servers[at], Mesh::new(&[0, 1]).servers.remove(0)));
    }
    let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
    let disturbed = run(session.as_mut(), 5, |seq| {
        if seq == 10 {
            lose(&mut mesh, 1, Way::Vanishes);
        }
    });
    let (outputs, pause) = disturbed.await.unwrap();
    assert!(outputs == alone);
    assert!(pause < Duration::from_millis(1100), "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn one_spare_after_the_other_may_be_lost_too() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    let config = ServeConfig::default();
    let mut mesh = Mesh::new(&CUTS);
    for _ in 0..5 {
        mesh = mesh.and_spares(&CUTS, config.clone(), |_, _| {});
    }
    // Two of the spares are gone before anybody tries them.
    for (spare, at) in [(0, 3), (4, 7)] {
        drop(std::mem::replace(&mut mesh.servers[at], Mesh::new(&[0, 1]).servers.remove(0)));
        mesh.fabric.silence(mesh.spares[spare].node, mesh.coordinator);
    }
    let (route, spares) = mesh.mended();
    let mut session = route.open(mesh.request()).await.unwrap();
    let outputs = run(session.as_mut(), 5, |seq| {
        if seq % 8 == 5 {
            lose(&mut mesh, seq % 3, Way::Vanishes);
        }
        if seq == 25 {
            // The first that took a place.
            lose(&mut mesh, 5, Way::Vanishes);
        }
    });
    assert!(outputs.await.unwrap().0 == alone);
    assert!(spares.lost.lock().unwrap().len() > 3);
}

#[tokio::test(start_paused = true)]
async fn smaller_spans_take_the_place_of_a_longer_one() {
    let alone = generate_locally(9, 5, &CHUNKS, DECODE).await;
    let config = ServeConfig::default();
    for at in 0..3 {
        let mut mesh = Mesh::new(&[0, 3, 6, 9]).and_spares(&[0, 2, 4, 5, 8, 9], config.clone(), |_, _| {});
        let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
        let outputs = run(session.as_mut(), 5, |seq| {
            if seq == 9 {
                lose(&mut mesh, at, Way::Vanishes);
            }
        });
        assert!(outputs.await.unwrap().0 == alone, "hop {at}");
    }
}
