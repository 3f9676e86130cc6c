//! What is reported, how, and that the machine goes on.

mod common;

use std::{cell::Cell, rc::Rc};

use common::{
    caught, clean,
    kinds::{divergence, misaligned, out_of_bounds, poison},
    run,
};
use fused_lora_simt::{
    Action, Asynchrony, Kind, Launch, Machine, Op, Order, PartyActor, Schedule, Site, ops::*,
};

#[test]
fn reading_what_nobody_wrote() {
    caught(1, 32, poison, |_| {
        let _ = ld_shared::<u32>(dynamic_shared() + 4 * thread_idx_x());
    });
    // Two of four bytes were written.
    let mut machine = Machine::new();
    let y = machine.buffer(64);
    let report = run(&mut machine, &Schedule::default(), 1, 32, move || {
        if thread_idx_x() == 7 {
            st_global(y + 8, 1u16);
            let _ = ld_global::<u32>(y + 8);
        }
    })
    .unwrap_err();
    assert!(matches!(&report.kind, Kind::Poison { address, .. } if address.ends_with("+ 0xa")), "{report}");
    assert!(matches!(machine.read::<u16>(y + 8, 2).unwrap_err().kind, Kind::Poison { .. }));
    assert_eq!(machine.read::<u16>(y + 8, 1).unwrap(), [1]);
    machine.poison(y + 9, 1).unwrap();
    assert!(matches!(machine.read::<u16>(y + 8, 1).unwrap_err().kind, Kind::Poison { .. }));

    // Atomics and copies read, too; a relaxed store does not.
    let read = |kernel: fn(u64)| {
        let mut machine = Machine::new();
        let y = machine.buffer(64);
        run(&mut machine, &Schedule::default(), 1, 32, move || {
            if thread_idx_x() == 0 {
                kernel(y);
            }
        })
        .map_err(|report| report.kind)
    };
    assert!(matches!(read(|y| red_add_release_gpu(y, 1)), Err(Kind::Poison { .. })));
    assert!(matches!(read(|y| drop(ld_acquire_gpu(y).to_string())), Err(Kind::Poison { .. })));
    assert!(matches!(read(|y| cp_async_16(dynamic_shared(), y, 2)), Err(Kind::Poison { .. })));
    assert!(read(|y| st_relaxed_gpu(y, 1)).is_ok());
}

#[test]
fn shared_memory_is_poisoned_for_each_cta() {
    // The second CTA finds the first one's slot.
    let schedule = Schedule { slots: 1, ..Schedule::default() };
    let mut machine = Machine::new();
    let report = run(&mut machine, &schedule, 2, 32, || {
        if block_idx_x() == 0 {
            st_shared(dynamic_shared() + 4 * thread_idx_x(), 1u32);
        }
        bar_sync();
        let _ = ld_shared::<u32>(dynamic_shared() + 4 * thread_idx_x());
    })
    .unwrap_err();
    assert!(matches!(report.kind, Kind::Poison { .. }) && report.cta == 1, "{report}");
}

#[test]
fn addresses_are_checked_when_they_are_followed() {
    // Wandering is fine.
    clean(1, 32, |y| {
        let _ = ld_global::<u32>(y.wrapping_sub(1 << 20).wrapping_add(1 << 20));
    });
    caught(1, 32, out_of_bounds, |y| st_global(y + 1024, 1u16));
    caught(1, 32, out_of_bounds, |y| st_global(y - 2, 1u16));
    caught(1, 32, out_of_bounds, |y| st_global(y + (1 << 32), 1u16));
    caught(1, 32, out_of_bounds, |_| drop(ld_global::<u32>(0).to_string()));
    caught(1, 32, misaligned, |y| drop(ld_global::<u32>(y + 2).to_string()));
    caught(1, 32, misaligned, |y| drop(ld_global::<[u32; 4]>(y + 8)[0].to_string()));
    caught(1, 32, out_of_bounds, |_| st_shared(dynamic_shared() + 4096, 1u32));
    caught(1, 32, out_of_bounds, |_| st_shared(dynamic_shared() - 4, 1u32));
    caught(1, 32, out_of_bounds, |_| st_shared(0, 1u32));
    caught(1, 32, misaligned, |_| st_shared(dynamic_shared() + 2, 1u32));
    caught(1, 32, misaligned, |y| cp_async_16(dynamic_shared(), y + 8, 16));
    caught(1, 32, misaligned, |y| cp_async_16(dynamic_shared() + 8, y, 16));
    caught(1, 32, misaligned, |_| drop(ldmatrix_x4(dynamic_shared() + 8)[0].to_string()));
    // The host's, too.
    let mut machine = Machine::new();
    let y = machine.buffer(8);
    assert!(matches!(machine.write(y + 4, &[0u64]).unwrap_err().kind, Kind::OutOfBounds { limit: 8, .. }));
    assert!(matches!(machine.read::<u32>(y, 3).unwrap_err().kind, Kind::OutOfBounds { .. }));
    assert!(matches!(machine.read::<u64>(y, usize::MAX).unwrap_err().kind, Kind::OutOfBounds { .. }));
}

#[test]
fn inputs_are_read_only_for_kernels() {
    let mut machine = Machine::new();
    let x = machine.input(&[1u32, 2]);
    machine.name(x, "x");
    let report = run(&mut machine, &Schedule::default(), 1, 32, move || st_global(x + 4, 1u32)).unwrap_err();
    assert!(matches!(&report.kind, Kind::ReadOnly { address, .. } if address == "x + 0x4"), "{report}");
    machine.write(x, &[3u32]).unwrap();
    assert_eq!(machine.read::<u32>(x, 2).unwrap(), [3, 2]);
}

#[test]
fn lanes_of_a_warp_execute_collectives_together() {
    let mma = || drop(mma_m16n8k16_f16([0; 4], [0; 2], [0.0; 4])[0].to_string());
    // One lane is elsewhere: at another instruction, at the same on another line where that is `.aligned`,
    // gone.
    caught(1, 32, divergence, move |_| if thread_idx_x() == 3 { bar_warp_sync() } else { mma() });
    caught(1, 32, divergence, move |_| if thread_idx_x() == 3 { bar_sync() } else { bar_warp_sync() });
    caught(1, 32, divergence, |_| {
        let halves: [fn(); 2] = [|| bar_sync(), || bar_sync()];
        halves[thread_idx_x() as usize / 16]();
    });
    caught(1, 32, divergence, move |_| {
        if thread_idx_x() != 3 {
            mma();
        }
    });
    caught(1, 64, divergence, |_| {
        if thread_idx_x() != 40 {
            bar_sync();
        }
    });
    // Warps may differ in their own collectives and in where they meet the barrier of the CTA.
    clean(1, 64, move |_| {
        if thread_idx_x() < 32 {
            mma();
            bar_sync();
        } else {
            bar_sync();
        }
    });
    // A whole warp that leaves others at the barrier.
    caught(1, 64, divergence, |_| {
        if thread_idx_x() < 32 {
            bar_sync();
        }
    });
}

#[test]
fn a_poll_for_what_never_comes_is_a_deadlock() {
    caught(
        2,
        64,
        |kind| {
            let Kind::Deadlock { waiting } = kind else { return false };
            let text = kind.to_string();
            // One polls, the other 63 of its CTA wait at the barrier. The other CTA has ended, or is not
            // resident.
            waiting.iter().any(|wait| wait.lanes == [5] && wait.op == Op::LdAcquire)
                && waiting
                    .iter()
                    .filter(|wait| wait.op == Op::BarSync)
                    .map(|wait| wait.lanes.len())
                    .sum::<usize>()
                    == 63
                && text.contains("buffer 0 + 0x10")
                && text.contains("faults.rs:")
        },
        |y| {
            if block_idx_x() == 0 {
                if thread_idx_x() == 5 {
                    while ld_acquire_gpu(y + 16) == 0 {}
                }
                bar_sync();
            }
        },
    );
}

#[test]
fn a_poll_of_two_flags_in_turn_is_a_deadlock_too() {
    let mut machine = Machine::new();
    let y = machine.buffer(8);
    machine.write(y, &[0u32; 2]).unwrap();
    let report = run(&mut machine, &Schedule::default(), 1, 32, move || {
        if thread_idx_x() == 0 {
            while ld_acquire_gpu(y) == 0 && ld_acquire_gpu(y + 4) == 0 {}
        }
    })
    .unwrap_err();
    assert!(matches!(report.kind, Kind::Deadlock { .. }), "{report}");
}

#[test]
fn waiting_for_a_cta_that_comes_later_is_a_deadlock_on_few_slots_only() {
    let mut machine = Machine::new();
    let y = machine.buffer(4);
    let mut with_slots = |slots, order| {
        machine.write(y, &[0u32]).unwrap();
        let schedule = Schedule { slots, order, ..Schedule::default() };
        run(&mut machine, &schedule, 3, 32, move || {
            if thread_idx_x() == 0 {
                if block_idx_x() == 2 {
                    red_add_release_gpu(y, 1);
                } else {
                    while ld_acquire_gpu(y) == 0 {}
                }
            }
        })
    };
    with_slots(3, Order::Ascending).unwrap();
    with_slots(1, Order::Descending).unwrap();
    let report = with_slots(2, Order::Ascending).unwrap_err();
    let Kind::Deadlock { waiting } = &report.kind else { panic!("{report}") };
    assert_eq!(
        waiting.iter().map(|wait| (wait.cta, wait.lanes.as_slice())).collect::<Vec<_>>(),
        [(0, &[0][..]), (1, &[0])]
    );
}

#[test]
fn acquires_of_what_is_there_are_no_deadlock() {
    // The same acquire again and again, with nobody else left.
    clean(1, 32, |y| {
        for _ in 0..40 {
            let _ = ld_acquire_gpu(y);
        }
    });
}

#[test]
fn a_poll_loop_rests_while_nobody_writes() {
    let mut machine = Machine::new();
    let y = machine.buffer(4096);
    machine.write(y, &[0u32]).unwrap();
    let schedule = Schedule { preempt: 1.0, slots: 2, ..Schedule::default() };
    let stats = run(&mut machine, &schedule, 2, 32, move || {
        if thread_idx_x() == 0 && block_idx_x() == 0 {
            while ld_acquire_gpu(y) == 0 {}
        } else if thread_idx_x() == 0 {
            for i in 1..1000 {
                st_global(y + 4 * i, 1u32);
            }
            red_add_release_gpu(y, 1);
        }
    })
    .unwrap();
    let polls = stats.sites_of(Op::LdAcquire, "faults.rs").map(|site| site.count).sum::<u64>();
    assert!((1..=3).contains(&polls), "{polls}");
}

#[test]
fn non_coherent_reads_of_what_the_launch_writes() {
    let mutate = |op| Site::all(op).does(Action::NonCoherent);
    let kernel = |y: u64| {
        move || {
            if thread_idx_x() == 0 {
                let _ = ld_global::<u32>(y);
                cp_async_16(dynamic_shared(), y + 16, 16);
                cp_async_commit_group();
                cp_async_wait_group(0);
                st_global(y + 4, 1u32);
                st_global(y + 32, 1u32);
            }
            bar_sync();
            if thread_idx_x() == 1 {
                let _ = ld_global::<u32>(y + 4);
                cp_async_16(dynamic_shared() + 16, y + 32, 4);
                cp_async_commit_group();
                cp_async_wait_group(0);
            }
        }
    };
    let mut machine = Machine::new();
    let y = machine.buffer(64);
    machine.write(y, &[0u32; 16]).unwrap();
    run(&mut machine, &Schedule::default(), 1, 32, kernel(y)).unwrap();
    for op in [Op::LdGlobal, Op::CpAsync] {
        for lane in 0..2 {
            let site = Site { lane: Some(lane), ..Site::all(op) };
            let mutation = fused_lora_simt::Mutation { site, ..mutate(op) };
            let result = run(&mut machine, &Schedule::default().with(mutation), 1, 32, kernel(y));
            // What lane 0 reads is written by nobody, what lane 1 reads by lane 0, though ordered.
            match (lane, result) {
                (0, Ok(stats)) => assert_eq!(stats.mutated, 1),
                (1, Err(report)) => assert!(matches!(report.kind, Kind::NonCoherent { .. }), "{report}"),
                (_, other) => panic!("{op}, lane {lane}: {other:?}"),
            }
        }
    }
    // A write after the read is as bad, also with an ordinary read in between.
    let first = Site::all(Op::LdGlobal).occurrence(0).does(Action::NonCoherent);
    let result = run(&mut machine, &Schedule::default().with(first), 1, 32, move || {
        if thread_idx_x() == 0 {
            for i in 0..3 {
                if i == 2 {
                    st_global(y, 1u32);
                } else {
                    let _ = ld_global::<u32>(y);
                }
            }
        }
    });
    assert!(matches!(result.unwrap_err().kind, Kind::NonCoherent { op: Op::StGlobal, .. }));
    let result = run(&mut machine, &Schedule::default().with(mutate(Op::LdGlobal)), 1, 32, move || {
        if thread_idx_x() == 0 {
            st_global(y, ld_global::<u32>(y));
        }
    });
    assert!(matches!(result.unwrap_err().kind, Kind::NonCoherent { op: Op::StGlobal, .. }));
}

#[test]
fn a_report_names_both_sides() {
    let mut machine = Machine::new();
    let x = machine.input(&[0u32; 4]);
    let line = Rc::new(Cell::new(0));
    let kernel_line = line.clone();
    let report = run(
        &mut machine,
        &Schedule { asynchrony: Asynchrony::Late, ..Schedule::default() },
        1,
        32,
        move || {
            if thread_idx_x() == 9 {
                kernel_line.set(line!() + 1);
                cp_async_16(dynamic_shared() + 32, x, 16);
                cp_async_commit_group();
                let _ = ld_shared::<u32>(dynamic_shared() + 40);
            }
        },
    )
    .unwrap_err();
    assert_eq!((&*report.kernel, report.cta, report.lane), ("kernel", 0, 9));
    assert!(report.location.file.ends_with("faults.rs"));
    assert_eq!(report.location.line, line.get() + 2);
    let Kind::Race { op, address, other } = &report.kind else { panic!("{report}") };
    assert_eq!((*op, address.as_str()), (Op::LdShared, "shared memory + 0x28"));
    assert_eq!((other.op, other.cta, other.location.line), (Op::CpAsync, 0, line.get()));
    assert_eq!(other.actor, PartyActor::Copy { lane: 9, completed: false });
    let text = report.to_string();
    for part in
        ["kernel, CTA 0, lane 9", "faults.rs", "race: ld.shared of shared memory + 0x28", "a copy under way"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_panic_of_a_kernel_is_a_report() {
    let mut machine = Machine::new();
    let y = machine.buffer(4);
    let report = run(&mut machine, &Schedule::default(), 1, 32, move || {
        bar_sync();
        assert!(thread_idx_x() != 4, "lane four");
        bar_sync();
        st_global(y, 1u32);
    })
    .unwrap_err();
    assert!(matches!(&report.kind, Kind::Panic { message } if message == "lane four"), "{report}");
    assert_eq!(report.lane, 4);
}

#[test]
fn an_aborted_launch_leaves_memory_as_it_was_and_the_machine_usable() {
    let mut machine = Machine::new();
    let y = machine.buffer(4 * 256);
    let kernel = move || {
        for i in 0..8 {
            let at = y + 4 * u64::from(32 * i + thread_idx_x());
            st_global(at, i);
            bar_sync();
        }
    };
    // Uninterrupted, a lane does its store and its arrival at the barrier in one go.
    let schedule = Schedule { preempt: 0.0, ..Schedule::default() };
    let report = run(&mut machine, &schedule.clone().abort_after(32 * 6 + 10), 1, 32, kernel).unwrap_err();
    assert!(matches!(report.kind, Kind::Aborted { instructions: 202 }), "{report}");
    // Three rounds of a store and a barrier, and 5 lanes in the fourth.
    assert_eq!(machine.read::<u32>(y, 96).unwrap()[95], 2);
    assert_eq!((96..256).filter(|i| machine.read::<u32>(y + 4 * i, 1).is_ok()).count(), 5);
    run(&mut machine, &schedule, 1, 32, kernel).unwrap();
    assert_eq!(machine.read::<u32>(y, 256).unwrap()[255], 7);
}

#[test]
fn equal_schedules_take_the_same_course() {
    let course = |schedule: &Schedule| {
        let mut machine = Machine::new();
        let y = machine.buffer(4 * 4 * 64);
        machine.write(y, &[0u32; 256]).unwrap();
        let stats = run(&mut machine, schedule, 4, 64, move || {
            let ticket = atom_inc_relaxed_gpu(y, u32::MAX);
            cp_async_16(dynamic_shared() + 16 * thread_idx_x(), y + 16, 16);
            cp_async_commit_group();
            cp_async_wait_group(0);
            bar_sync();
            st_global(y + 512 + 2 * u64::from(ticket % 256), thread_idx_x() as u16);
        })
        .unwrap();
        (stats, machine.read::<u16>(y + 512, 256).unwrap())
    };
    let outcomes: Vec<_> = (0..6).map(|seed| course(&Schedule::random(seed))).collect();
    for (seed, outcome) in (0..).zip(&outcomes) {
        assert_eq!(*outcome, course(&Schedule::random(seed)));
        assert!(
            outcomes.iter().filter(|other| other.1 == outcome.1).count() == 1,
            "another seed, the same tickets"
        );
    }
}

#[test]
fn each_action_does_what_it_says() {
    let run_with = |mutation: fused_lora_simt::Mutation| {
        let mut machine = Machine::new();
        let y = machine.buffer(64);
        machine.write(y, &[0u32; 16]).unwrap();
        let result = run(&mut machine, &Schedule::default().with(mutation), 2, 32, move || {
            if block_idx_x() == 1 && thread_idx_x() == 3 {
                for i in 0..3 {
                    red_add_release_gpu(y, tap("one", 1));
                    st_shared(dynamic_shared() + 4 * i, i + 1);
                }
                st_global(y + 4, ld_shared::<u32>(dynamic_shared()));
            }
        });
        (result.map(|stats| stats.mutated).map_err(|report| report.kind), machine.read::<u32>(y, 2).unwrap())
    };
    let red = || Site::all(Op::RedAddRelease);
    assert_eq!(run_with(red().does(Action::Drop)).1, [0, 1]);
    assert_eq!(run_with(red().occurrence(1).does(Action::Drop)).1, [2, 1]);
    assert_eq!(run_with(red().cta(0).does(Action::Drop)).1, [3, 1]);
    assert_eq!(run_with(red().cta(1).lane(3).does(Action::Drop)).1, [0, 1]);
    assert_eq!(run_with(red().lane(4).does(Action::Drop)).1, [3, 1]);
    assert_eq!(run_with(Site::file(Op::RedAddRelease, "faults.rs").does(Action::Drop)).1, [0, 1]);
    assert_eq!(run_with(Site::file(Op::RedAddRelease, "elsewhere.rs").does(Action::Drop)).1, [3, 1]);
    assert_eq!(run_with(red().line(1).does(Action::Drop)).1, [3, 1]);
    assert_eq!(run_with(Site::tap("one").does(Action::Tap(|one| one + 4))).1, [15, 1]);
    assert_eq!(run_with(Site::tap("two").does(Action::Tap(|one| one + 4))).1, [3, 1]);
    let store = Site::all(Op::StShared).occurrence(0);
    assert!(matches!(run_with(store.does(Action::AddressXor(16))).0, Err(Kind::Poison { .. })));
    // What does not apply changes nothing.
    assert_eq!(run_with(red().does(Action::ByteDelta(1))).1, [3, 1]);
}

#[test]
fn sites_are_listed_in_the_order_of_the_source() {
    let mut machine = Machine::new();
    let stats = run(&mut machine, &Schedule::default(), 1, 64, || {
        bar_sync();
        for _ in 0..2 {
            bar_warp_sync();
        }
        bar_sync();
    })
    .unwrap();
    let listed: Vec<_> = stats.sites.iter().map(|site| (site.op, site.count)).collect();
    assert_eq!(listed, [(Op::BarSync, 64), (Op::BarWarpSync, 128), (Op::BarSync, 64)]);
    assert!(stats.sites.is_sorted_by_key(|site| site.line));
    assert_eq!(stats.sites_of(Op::BarSync, "tests/faults.rs").count(), 2);
}

#[test]
fn launches_are_checked() {
    let mut machine = Machine::new();
    for (grid, block, shared) in
        [(1, 0, 0), (1, 33, 0), (1, 1056, 0), (0, 32, 0), (1 << 21, 32, 0), (1, 32, 300_000)]
    {
        let launch = Launch::new("bad", grid, block, shared, || ());
        let report = machine.run(&[launch], &Schedule::default()).unwrap_err();
        assert!(matches!(report.kind, Kind::Launch { .. }), "{report}");
    }
    machine.run(&[], &Schedule::default()).unwrap();
    // A machine within a machine.
    let launch = Launch::new("outer", 1, 32, 0, || {
        let inner = Launch::new("inner", 1, 32, 0, || ());
        let report = Machine::new().run(&[inner], &Schedule::default()).unwrap_err();
        assert!(matches!(report.kind, Kind::Launch { .. }));
    });
    machine.run(&[launch], &Schedule::default()).unwrap();
}

#[test]
fn many_lanes_that_read_one_word_take_no_quadratic_time() {
    let start = std::time::Instant::now();
    let mut machine = Machine::new();
    let y = machine.buffer(16);
    machine.write(y, &[0u32; 4]).unwrap();
    let schedule = Schedule { slots: 8, ..Schedule::default() };
    run(&mut machine, &schedule, 64, 1024, move || {
        for _ in 0..4 {
            let _ = ld_global::<u32>(y);
        }
    })
    .unwrap();
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
