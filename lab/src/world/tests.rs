use super::*;

fn world(everywhere: &Everywhere) -> World {
    let nodes = [("cn-beijing", 1), ("sg", 2), ("sg-edge", 3)].map(|(name, port)| {
        let region = Region::new(name.trim_end_matches("-edge")).expect("a name");
        let placed = Placed::new(region, vec![SocketAddr::from(([127, 0, 0, 1], port))]);
        (NodeId::new(&format!("{name}-1")).expect("a name"), placed)
    });
    World::new(&Matrix::bundled(), Split::Half, everywhere, nodes.into(), 1)
}

fn who(world: &World, port: u16) -> Who {
    let at = world.at(SocketAddr::from(([127, 0, 0, 1], port)));
    at.expect("somebody").0
}

fn between(world: &World, from: &Who, to: &Who) -> (Duration, Profile) {
    world.between(from, to, &Net::internet())
}

#[test]
fn delays_come_from_the_matrix_and_faults_lie_over_them() {
    let mut world = world(&Everywhere::Same(Profile::clean()));
    let (beijing, sg, edge) = (who(&world, 1), who(&world, 2), who(&world, 3));
    let clean = (Duration::from_millis(119), Profile::clean());
    assert_eq!(between(&world, &beijing, &sg), clean);
    assert_eq!(
        between(&world, &sg, &edge),
        (SAME_REGION, Profile::default())
    );
    assert_eq!(world.at(SocketAddr::from(([127, 0, 0, 1], 9))), None);

    let faster = Effect {
        delay_ms: Some(50.0),
        ..Effect::default()
    };
    let fault = Change::lay("cn-beijing", "sg", faster).one_way();
    world.apply(&fault).expect("laid");
    let faster = (Duration::from_millis(50), Profile::clean());
    assert_eq!(between(&world, &beijing, &sg), faster);
    assert_eq!(between(&world, &sg, &beijing), clean);
    // Of one node only; the region's other node keeps the earlier fault.
    let cut = Change::cut("cn-beijing", "sg-1").one_way();
    world.apply(&cut).expect("cut");
    assert_eq!(between(&world, &beijing, &sg).1, Profile::blackhole());
    assert_eq!(between(&world, &beijing, &edge), faster);
    let restore = Change::restore("cn-beijing", "sg-1").one_way();
    world.apply(&restore).expect("restored");
    assert!(world.apply(&restore).is_err());
    assert_eq!(between(&world, &beijing, &sg), faster);
}

#[test]
fn zones_are_near_and_have_names() {
    let mut world = world(&Everywhere::Same(Profile::clean()));
    let place = |world: &mut World, node: &str, zone: &str| {
        let placed = world.nodes.get_mut(node).expect("a node");
        placed.zone = Some(zone.parse().expect("a zone"));
    };
    place(&mut world, "sg-1", "east");
    place(&mut world, "sg-edge-1", "east");
    let near = between(&world, &who(&world, 2), &who(&world, 3));
    assert_eq!(near, (SAME_ZONE, Profile::default()));
    place(&mut world, "sg-edge-1", "west");
    let (beijing, east, west) = (who(&world, 1), who(&world, 2), who(&world, 3));
    assert_eq!(between(&world, &east, &west).0, SAME_REGION);
    world
        .apply(&Change::cut("sg/east", "cn-beijing"))
        .expect("cut");
    assert_eq!(between(&world, &beijing, &east).1, Profile::blackhole());
    assert_eq!(between(&world, &beijing, &west).1, Profile::clean());
    assert!(world.apply(&Change::cut("sg/north", "hk")).is_err());
}

#[test]
fn a_line_joins_its_two_regions_only() {
    let mut world = world(&Everywhere::Same(Profile::clean()));
    let line: Net = "line-1".parse().expect("a net");
    let addr = SocketAddr::from(([10, 77, 1, 1], 1));
    let sg = world.nodes.get_mut("sg-1").expect("a node");
    sg.lines.insert(line.clone(), vec![addr]);
    let (sg, on) = world.at(addr).expect("somebody");
    assert_eq!((sg.node.as_deref(), &on), (Some("sg-1"), &line));
    let beijing = who(&world, 1);
    assert_eq!(world.between(&beijing, &sg, &line).1, Profile::blackhole());
    let delay = Duration::from_millis(60);
    let ends = [&beijing.region, &sg.region];
    world.lease(&line, ends, delay, &Profile::default());
    world.check().expect("a world");
    assert_eq!(
        world.between(&sg, &beijing, &line),
        (delay, Profile::default())
    );
    // A cut of the internet leaves the line, and one of everything does not.
    let cut = Change::cut("cn-beijing", "sg");
    world
        .apply(&cut.clone().over(Net::internet()))
        .expect("cut");
    assert_eq!(between(&world, &beijing, &sg).1, Profile::blackhole());
    assert_eq!(world.between(&beijing, &sg, &line).1, Profile::default());
    world.apply(&cut).expect("cut");
    assert_eq!(world.between(&beijing, &sg, &line).1, Profile::blackhole());
}

#[test]
fn a_world_that_cannot_be_is_refused_by_name() {
    let good = world(&Everywhere::Same(Profile::clean()));
    let refused = |change: &dyn Fn(&mut World)| {
        let mut world = good.clone();
        change(&mut world);
        world.check().expect_err("refused")
    };
    let told = refused(&|world| drop(world.ways.pop()));
    assert_eq!(
        told,
        "the way sg → cn-beijing (internet) is missing; the one back stands there"
    );
    let told = refused(&|world| world.ways.push(world.ways[0].clone()));
    assert_eq!(told, "cn-beijing → sg (internet): stands there twice");
    let told = refused(&|world| {
        world.apply(&Change::cut("sg", "cn-beijing")).expect("cut");
        world.faults[0].to = "cn-bejing".to_owned();
    });
    assert!(told.contains("no node, zone or region cn-bejing"), "{told}");
}

#[test]
fn china_inbound_is_bad_in_one_direction_only() {
    let world = world(&Everywhere::named("china-inbound").expect("a profile"));
    let (beijing, sg) = (who(&world, 1), who(&world, 2));
    assert_eq!(between(&world, &sg, &beijing).1, Profile::china_inbound());
    assert_eq!(between(&world, &beijing, &sg).1, Profile::internet());
}

#[test]
fn a_world_file_comes_back_as_it_was_and_a_bad_one_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("world.json");
    let mut world = world(&Everywhere::Same(Profile::internet()));
    world.write(&path).expect("written");
    assert_eq!(World::read(&path).expect("read"), world);
    world.ways[0].profile.jitter = crate::wan::Jitter::Uniform { share: 3.0 };
    world.write(&path).expect("written");
    let refused = World::read(&path).expect_err("refused").to_string();
    assert!(refused.contains("share is 3"), "{refused}");
    fs::write(&path, r#"{"seeds":1}"#).expect("written");
    let refused = World::read(&path).expect_err("refused").to_string();
    assert!(refused.contains("seeds"), "{refused}");
}
