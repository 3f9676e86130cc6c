//! PTX snippets: tensors of one to five dimensions, and wgmma in all its forms.

use fused_lora_simt::{Element, Kind, Machine, Report, Schedule, Swizzle, Tensor, ptx::Module};

const HEAD: &str = "\
.version 8.6
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 memory[];
.visible .entry test(
    .param .u64 to,
    .param .align 64 .b8 map[128],
    .param .align 64 .b8 out[128]
)
{
.reg .pred %p<8>;
.reg .b32 %r<64>, %lane, %mem, %bar;
.reg .b64 %d<16>, %to, %at, %map, %out;
.reg .f32 %c<16>, %e<16>;
mov.u32 %lane, %tid.x;
mov.u32 %mem, memory;
add.u32 %bar, %mem, 8192;
ld.param.u64 %to, [to];
mov.b64 %d0, map;
cvta.param.u64 %map, %d0;
mov.b64 %d0, out;
cvta.param.u64 %out, %d0;
setp.eq.u32 %p1, %lane, 0;
";

fn run(
    machine: &mut Machine,
    body: &str,
    lanes: u32,
    (to, maps): (u64, [&Tensor; 2]),
    schedule: &Schedule,
) -> Result<(), Report> {
    let text = format!("{HEAD}{body}\nret;\n}}\n");
    let module = Module::parse("test.ptx", &text).unwrap_or_else(|refused| panic!("{refused}\n{text}"));
    let mut parameters = vec![0; 64];
    parameters[..8].copy_from_slice(&to.to_le_bytes());
    for map in maps {
        parameters.extend(map.encode().iter().flat_map(|word| word.to_le_bytes()));
    }
    let launch = module.launch(&module.entries()[0], &parameters, 1, lanes, 16 * 1024);
    machine.run(&[launch], schedule).map(|_| ())
}

/// A tensor of one dimension, all of it in its box.
fn line(address: u64, element: Element, length: u32) -> Tensor {
    let (dims, box_dims) = (vec![length.into()], vec![length]);
    Tensor { address, element, dims, strides: vec![], box_dims, swizzle: Swizzle::None }
}

/// A dense tensor of these dimensions whose every element is its number, loaded by a box and stored at the
/// same place.
fn copied(
    rank: usize,
    element: Element,
    body: impl Fn(&str, &str) -> String,
    schedule: &Schedule,
) -> Result<(), Report> {
    let dims = &[32u64, 3, 4, 2, 5][..rank];
    let bytes = u64::from(element.bytes());
    let count: u64 = dims.iter().product();
    let mut machine = Machine::new();
    let data: Vec<u8> = (0..count * bytes).map(|byte| (byte / bytes * 7 + byte % bytes * 3) as u8).collect();
    let from = machine.input(&data);
    let to = machine.buffer(data.len());
    machine.write(to, &vec![0xeeu8; data.len()]).expect("it is there");
    let map = |address| Tensor {
        address,
        element,
        dims: dims.to_vec(),
        strides: (1..rank).map(|dim| dims[..dim].iter().product::<u64>() * bytes).collect(),
        box_dims: [32u32, 2, 2, 1, 2][..rank].to_vec(),
        swizzle: Swizzle::None,
    };
    let at = &["0", "2", "1", "1", "4"][..rank];
    let body = body(&rank.to_string(), &at.join(", "));
    run(&mut machine, &body, 32, (to, [&map(from), &map(to)]), schedule)?;
    let found = machine.read::<u8>(to, data.len())?;
    // The place of each element, by dimension, from the box's first: in the box, as far as it is within
    // bounds, it was copied.
    for (number, (found, data)) in found.chunks(bytes as usize).zip(data.chunks(bytes as usize)).enumerate() {
        let mut rest = number as u64;
        let is_in = dims.iter().zip([(0, 32), (2, 2), (1, 2), (1, 1), (4, 2)]).all(|(dim, (first, size))| {
            let place = rest % dim;
            rest /= dim;
            (first..first + size).contains(&place)
        });
        assert_eq!(found == data, is_in || data.iter().all(|&byte| byte == 0xee), "{rank}: element {number}");
    }
    Ok(())
}

#[test]
fn tensors_of_one_to_five_dimensions() {
    let body = |count: u32| {
        move |rank: &str, at: &str| {
            format!(
                "@%p1 mbarrier.init.shared.b64 [%bar], 1; @%p1 fence.mbarrier_init.release.cluster;
                    bar.sync 0;
                @!%p1 bra $wait;
                mov.b64 %d1, 0x1000;
                mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%bar], {count};
                cp.async.bulk.prefetch.tensor.{rank}d.L2.global.tile [%map, {{{at}}}];
            cp.async.bulk.tensor.{rank}d.shared::cta.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint
                    [%mem], [%map, {{{at}}}], [%bar], %d1;
                mbarrier.arrive.shared.b64 _, [%bar];
                $wait: mbarrier.try_wait.parity.shared.b64 %p2, [%bar], 0; @!%p2 bra $wait;
                @!%p1 bra $end;
                cp.async.bulk.tensor.{rank}d.global.shared::cta.bulk_group [%out, {{{at}}}], [%mem];
                cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
                $end:"
            )
        }
    };
    for schedule in Schedule::standard(7) {
        for (element, bytes) in [(Element::F16, 2), (Element::F32, 4), (Element::U8, 1), (Element::Bf16, 2)] {
            for (rank, elements) in [(1, 32), (2, 64), (3, 128), (4, 128), (5, 256)] {
                copied(rank, element, body(elements * bytes), &schedule)
                    .unwrap_or_else(|report| panic!("{report}"));
            }
        }
        let report = copied(3, Element::F16, body(258), &schedule).unwrap_err();
        assert!(matches!(report.kind, Kind::Deadlock { .. }), "{report}");
        let early = |rank: &str, at: &str| {
            body(256)(rank, at).replace(
                "$wait: mbarrier.try_wait.parity.shared.b64 %p2, [%bar], 0; @!%p2 bra $wait;",
                "$wait:",
            )
        };
        let report = copied(3, Element::F16, early, &schedule).unwrap_err();
        assert!(!matches!(report.kind, Kind::Panic { .. }), "{report}");
    }
    // Another number of coordinates than the map has dimensions.
    let wrong = |_: &str, _: &str| body(256)("2", "0, 0");
    let report = copied(3, Element::F16, wrong, &Schedule::random(0)).unwrap_err();
    assert!(matches!(report.kind, Kind::Operand { .. }), "{report}");
}

/// f16 of a small integer.
fn f16(value: i32) -> u16 {
    half::f16::from_f32(value as f32).to_bits()
}

/// a[m][k] and b[n][k] of one step.
fn a(m: u32, k: u32) -> i32 {
    ((m * 3 + k * 5) % 7) as i32 - 3
}

fn b(n: u32, k: u32) -> i32 {
    ((n * 2 + k * 3) % 5) as i32 - 2
}

/// Core matrices without a swizzle: where element (row, k) lies, K-major or not.
fn place(row: u32, k: u32, is_transposed: bool) -> usize {
    let bytes = if is_transposed {
        // Eight K of eight rows in one piece; then eight rows at 256, eight K at 128.
        row / 8 * 256 + k / 8 * 128 + k % 8 * 16 + row % 8 * 2
    } else {
        row / 8 * 256 + k / 8 * 128 + row % 8 * 16 + k % 8 * 2
    };
    bytes as usize / 2
}

/// Runs `m64n8k16` products on a, 2048 bytes from `%mem` on, and b behind it; what the four accumulators of
/// each lane are then.
fn products(body: &str, transposed: [bool; 2], schedule: &Schedule) -> Result<Vec<f32>, Report> {
    let mut words = vec![0u16; (2048 + 256) / 2];
    for k in 0..16 {
        (0..64).for_each(|m| words[place(m, k, transposed[0])] = f16(a(m, k)));
        (0..8).for_each(|n| words[1024 + place(n, k, transposed[1])] = f16(b(n, k)));
    }
    products_of(&words, body, schedule)
}

/// Likewise of what these words are.
fn products_of(words: &[u16], body: &str, schedule: &Schedule) -> Result<Vec<f32>, Report> {
    let mut machine = Machine::new();
    let from = machine.input(words);
    let to = machine.buffer(128 * 16);
    let map = line(from, Element::F16, 8);
    // Descriptors without a swizzle: leading 128 and stride 256 bytes, both ways alike.
    let text = format!(
        "mov.u32 %r1, %lane; mov.b64 %d1, {from};
        $fill: mad.wide.u32 %at, %r1, 4, %d1; ld.global.b32 %r2, [%at]; mad.lo.u32 %r3, %r1, 4, %mem;
        st.shared.b32 [%r3], %r2;
        add.u32 %r1, %r1, 128; setp.lt.u32 %p2, %r1, 576; @%p2 bra $fill;
        fence.proxy.async; bar.sync 0;
        mov.b64 %d2, 0x0000001000080040; mov.b64 %d3, 0x00000010000800c0;
        mov.b32 %c0, 0f3f800000; mov.b32 %c1, %c0; mov.b32 %c2, %c0; mov.b32 %c3, %c0;
        mov.b32 %e0, 0f40000000; mov.b32 %e1, %e0; mov.b32 %e2, %e0; mov.b32 %e3, %e0;
        wgmma.fence.sync.aligned;
        {body}
        mad.wide.u32 %at, %lane, 16, %to; st.global.v4.f32 [%at], {{%c0, %c1, %c2, %c3}};"
    );
    run(&mut machine, &text, 128, (to, [&map, &map]), schedule)?;
    machine.read(to, 128 * 4)
}

/// What value i of a lane is of the product, times `sign` and with `plus`.
fn expected(sign: i32, plus: i32) -> Vec<f32> {
    let value = |lane: u32, i: u32| {
        let (row, column) = (16 * (lane / 32) + lane / 4 % 8 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
        (plus + sign * (0..16).map(|k| a(row, k) * b(column, k)).sum::<i32>()) as f32
    };
    (0..128).flat_map(|lane| (0..4).map(move |i| value(lane, i))).collect()
}

const ACC: &str = "{%c0, %c1, %c2, %c3}";
const END: &str = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;";
const NAME: &str = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16";
/// A of the lane's fragment, from shared memory, to `%r10` to `%r13`.
const FRAGMENT: &str = "
    shr.u32 %r4, %lane, 5; mad.lo.u32 %r5, %r4, 512, %mem; shr.u32 %r6, %lane, 2; and.b32 %r6, %r6, 7;
    mad.lo.u32 %r5, %r6, 16, %r5; and.b32 %r7, %lane, 3; mad.lo.u32 %r5, %r7, 4, %r5;
    ld.shared.b32 %r10, [%r5]; ld.shared.b32 %r11, [%r5+256]; ld.shared.b32 %r12, [%r5+128];
    ld.shared.b32 %r13, [%r5+384];";

#[test]
fn wgmma_in_all_its_forms() {
    for schedule in Schedule::standard(9) {
        let of = |body: &str, transposed| {
            products(body, transposed, &schedule).unwrap_or_else(|report| panic!("{report}\n{body}"))
        };
        let straight = [false, false];
        let plain = |rest: &str| format!("{NAME} {ACC}, %d2, %d3, {rest}; {END}");
        assert_eq!(of(&plain("1, 1, 1, 0, 0"), straight), expected(1, 1));
        for transposed in [[true, false], [false, true], [true, true]] {
            let [of_a, of_b] = transposed.map(u32::from);
            assert_eq!(of(&plain(&format!("1, 1, 1, {of_a}, {of_b}")), transposed), expected(1, 1));
        }
        // Read as it does not lie, it is another product.
        assert_ne!(of(&plain("1, 1, 1, 0, 1"), straight), expected(1, 1));
        assert_eq!(of(&plain("1, -1, 1, 0, 0"), straight), expected(-1, 1));
        assert_eq!(of(&plain("1, -1, -1, 0, 0"), straight), expected(1, 1));
        // What was in the accumulators does not count.
        let fresh = format!("setp.ne.u32 %p3, %lane, %lane; {}", plain("%p3, 1, 1, 0, 0"));
        assert_eq!(of(&fresh, straight), expected(1, 0));
        assert_eq!(of(&plain("0, 1, 1, 0, 0"), straight), expected(1, 0));
        let registers = format!(
            "{FRAGMENT} wgmma.fence.sync.aligned; {NAME} {ACC}, {{%r10, %r11, %r12, %r13}}, %d3, 1, 1, 1, 0;
                {END}"
        );
        assert_eq!(of(&registers, straight), expected(1, 1));
        // Two accumulators in one group, and a second group that goes on with one of them.
        let several = format!(
            "{NAME} {ACC}, %d2, %d3, 1, 1, 1, 0, 0; {NAME} {{%e0, %e1, %e2, %e3}}, %d2, %d3, 1, 1, 1, 0, 0;
            wgmma.commit_group.sync.aligned;
            {NAME} {ACC}, %d2, %d3, 1, -1, 1, 0, 0; wgmma.commit_group.sync.aligned;
            wgmma.wait_group.sync.aligned 0;
            add.f32 %c0, %c0, %e0; add.f32 %c1, %c1, %e1; add.f32 %c2, %c2, %e2; add.f32 %c3, %c3, %e3;"
        );
        assert_eq!(of(&several, straight), expected(1, 3));
        // An empty group.
        assert_eq!(
            of(&format!("wgmma.commit_group.sync.aligned; {}", plain("1, 1, 1, 0, 0")), straight),
            expected(1, 1)
        );
    }
}

/// What products under way have is not to be touched.
#[test]
fn registers_of_products_under_way() {
    let wait = "wgmma.wait_group.sync.aligned 0;";
    let registers = format!(
        "{FRAGMENT} wgmma.fence.sync.aligned; {NAME} {ACC}, {{%r10, %r11, %r12, %r13}}, %d3, 1, 1, 1, 0;
            wgmma.commit_group.sync.aligned;"
    );
    let run =
        |between: &str| products(&format!("{registers} {between} {wait}"), [false; 2], &Schedule::random(2));
    run("mov.b32 %r20, %r11;").unwrap_or_else(|report| panic!("{report}"));
    for between in ["mov.b32 %r11, 0;", "add.f32 %e0, %c1, %c1;", "mov.b32 %c3, 0f00000000;"] {
        let report = run(between).expect_err(between);
        assert!(report.to_string().contains("touched before a wait"), "{report}");
    }
    // A fence stands between what wrote them and the product, on every way there.
    let unfenced = |before: &str| {
        let body = format!("{before} {NAME} {ACC}, %d2, %d3, 1, 1, 1, 0, 0; {END}");
        products(&body, [false; 2], &Schedule::random(2))
    };
    let around = |fence: &str| {
        format!("setp.eq.u32 %p4, %lane, 200; @%p4 bra $past; mov.b32 %c1, %c0; $past: {fence}")
    };
    unfenced(&around("wgmma.fence.sync.aligned;")).unwrap_or_else(|report| panic!("{report}"));
    for before in [&*around(""), "mov.b32 %c1, %c0;"] {
        let report = unfenced(before).expect_err(before);
        assert!(report.to_string().contains("no wgmma.fence"), "{report}");
    }
    // Also before the group is committed.
    let open = format!("{NAME} {ACC}, %d2, %d3, 1, 1, 1, 0, 0; mov.b32 %c0, 0f00000000; {END}");
    let report = products(&open, [false; 2], &Schedule::random(2)).unwrap_err();
    assert!(report.to_string().contains("touched before a wait"), "{report}");
    // Shared memory is read without a proxy fence.
    let text = format!("st.shared.b32 [%mem], 0; bar.sync 0; {NAME} {ACC}, %d2, %d3, 1, 1, 1, 0, 0; {END}");
    let report = products(
        &text.replace("st.shared", "setp.eq.u32 %p2, %lane, 0; @%p2 st.shared"),
        [false; 2],
        &Schedule::random(2),
    )
    .unwrap_err();
    assert!(matches!(report.kind, Kind::Proxy { .. }), "{report}");
}

#[test]
fn wgmma_of_other_numbers() {
    let single = |value: i32| (value as f32).to_bits();
    let of_e4m3 = |value: i32| match value {
        0 => 0,
        value => {
            // 1, 2 and 3: exponents 7 and 8, mantissas 0 and 4.
            let size = [0x38, 0x40, 0x44][value.unsigned_abs() as usize - 1];
            if value < 0 { size | 0x80 } else { size }
        }
    };
    let of_e5m2 = |value: i32| u32::from(f16(value)) >> 8;
    type Of<'a> = &'a dyn Fn(i32) -> u32;
    let byte: Of<'_> = &|value| value.cast_unsigned() & 0xff;
    let cases: [(&str, usize, [Of<'_>; 2], &str, &str); 6] = [
        ("k8.f32.tf32.tf32", 4, [&single; 2], "1, 1", "f32"),
        ("k32.f32.e4m3.e4m3", 1, [&of_e4m3; 2], "1, 1", "f32"),
        ("k32.f32.e5m2.e4m3", 1, [&of_e5m2, &of_e4m3], "1, 1", "f32"),
        ("k32.s32.s8.s8", 1, [byte; 2], "", "s32"),
        ("k16.f16.f16.f16", 2, [&|value| u32::from(f16(value)); 2], "1, 1, 0, 0", "f16"),
        ("k32.f16.e4m3.e4m3", 1, [&of_e4m3; 2], "1, 1", "f16"),
    ];
    for (name, bytes, of, rest, sum) in cases {
        let depth = 32 / bytes as u32;
        let mut data = vec![0u8; 2048 + 256];
        let mut set = |start: usize, row: u32, k: u32, bits: u32| {
            let column = k * bytes as u32;
            let at = start + (row / 8 * 256 + column / 16 * 128 + row % 8 * 16 + column % 16) as usize;
            data[at..at + bytes].copy_from_slice(&bits.to_le_bytes()[..bytes]);
        };
        for k in 0..depth {
            (0..64).for_each(|m| set(0, m, k, of[0](a(m, k))));
            (0..8).for_each(|n| set(2048, n, k, of[1](b(n, k))));
        }
        let words: Vec<u16> =
            data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let rest = if rest.is_empty() { String::new() } else { format!(", {rest}") };
        let d = if sum == "f16" { "{%c0, %c1}" } else { ACC };
        for operand in ["%d2", "{%r10, %r11, %r12, %r13}"] {
            let rest = if operand == "%d2" { rest.clone() } else { rest.replace(", 0, 0", ", 0") };
            let body = format!(
                "{FRAGMENT} wgmma.fence.sync.aligned;
                    wgmma.mma_async.sync.aligned.m64n8{name} {d}, {operand}, %d3, 0{rest}; {END}"
            );
            let found =
                products_of(&words, &body, &Schedule::random(3)).unwrap_or_else(|report| panic!("{report}"));
            for (lane, values) in (0..128).zip(found.chunks_exact(4)) {
                for i in 0..4 {
                    let (row, column) =
                        (16 * (lane / 32) + lane / 4 % 8 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
                    let expected: i32 = (0..depth).map(|k| a(row, k) * b(column, k)).sum();
                    let bits = |index: u32| values[index as usize].to_bits();
                    let value = match sum {
                        "f32" => f32::from_bits(bits(i)) as i32,
                        "s32" => bits(i).cast_signed(),
                        _ => half::f16::from_bits((bits(i / 2) >> (16 * (i % 2))) as u16).to_f32() as i32,
                    };
                    assert_eq!(value, expected, "{name}, A {operand}, row {row}, column {column}");
                }
            }
        }
    }
}

/// A map that is made in shared memory, of a row of 64 words, and a reduction by it.
#[test]
fn tensor_maps_made_by_a_kernel() {
    let body = |acquire: &str, replaced: &str| {
        format!(
            "mad.lo.u32 %r1, %lane, 4, %mem; st.shared.b32 [%r1], 0; add.u32 %r2, %lane, 1;
                st.shared.b32 [%r1+256], %r2;
            fence.proxy.async; bar.warp.sync -1; cvt.u64.u32 %d1, %mem; add.u64 %d4, %to, 256;
            @!%p1 bra $made;
            tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%d1], %to;
            tensormap.replace.tile.rank.shared::cta.b1024.b32 [%d1], 0;
            tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%d1], 0, 32;
            tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%d1], 0, 64;
            tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%d1], 0, 1;
            {replaced}
            $made: bar.warp.sync -1;
            tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%d4],
            [%d1], 128;
            {acquire} bar.sync 0;
            add.u32 %r3, %mem, 256;
            @%p1 cp.reduce.async.bulk.tensor.1d.global.shared::cta.add.tile.bulk_group [%d4, {{16}}], [%r3];
            @%p1 cp.reduce.async.bulk.tensor.1d.global.shared::cta.add.tile.bulk_group [%d4, {{16}}], [%r3];
            @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;"
        )
    };
    let run_on = |body: &str, schedule: &Schedule| {
        let mut machine = Machine::new();
        let to = machine.buffer(256 + 128);
        machine.write(to, &[100u32; 64]).expect("it is there");
        let map = line(to, Element::U32, 4);
        run(&mut machine, body, 32, (to, [&map, &map]), schedule)?;
        machine.read::<u32>(to, 64)
    };
    let acquire = "fence.proxy.tensormap::generic.acquire.gpu [%d4], 128;";
    let element = "tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%d1], 2;";
    let expected: Vec<u32> =
        (0..64).map(|at| if (16..48).contains(&at) { 100 + 2 * (at - 15) } else { 100 }).collect();
    for schedule in Schedule::standard(9) {
        let found = run_on(&body(acquire, element), &schedule).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(found, expected);
        for (acquire, replaced) in [
            ("", element),
            (acquire, "tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%d1], 8;"),
            (acquire, "tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%d1], 0, 3;"),
        ] {
            let report = run_on(&body(acquire, replaced), &schedule).unwrap_err();
            assert!(matches!(report.kind, Kind::Operand { .. }), "{report}");
        }
    }
}

#[test]
fn bulk_copies_without_a_map() {
    // 128 words of a parameter's array to shared memory, and back with one added to each, or to the next 128.
    let body = |wait: &str, count: u32, store: &str| {
        format!(
            "@%p1 mbarrier.init.shared.b64 [%bar], 1; @%p1 fence.mbarrier_init.release.cluster; bar.sync 0;
            @%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%bar], {count};
            @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%mem], [%to], 512, [%bar];
            {wait}
            mad.lo.u32 %r1, %lane, 16, %mem; ld.shared.b32 %r2, [%r1]; add.u32 %r2, %r2, 1;
            st.shared.b32 [%r1], %r2;
            fence.proxy.async.shared::cta; bar.sync 0; add.u64 %d1, %to, 512;
            @%p1 {store}; @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;"
        )
    };
    let run_on = |body: &str, schedule: &Schedule| {
        let mut machine = Machine::new();
        let to = machine.buffer(1024);
        machine.write(to, &(0..256).collect::<Vec<u32>>()).expect("it is there");
        let map = line(to, Element::U32, 4);
        run(&mut machine, body, 32, (to, [&map, &map]), schedule)?;
        machine.read::<u32>(to, 256)
    };
    let wait = "$wait: mbarrier.try_wait.parity.shared.b64 %p2, [%bar], 0; @!%p2 bra $wait;";
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%d1], [%mem], 512";
    let reduce = "cp.reduce.async.bulk.global.shared::cta.bulk_group.max.u32 [%to], [%mem], 512";
    let first = |at: u32| at + u32::from(at.is_multiple_of(4));
    for schedule in Schedule::standard(9) {
        let of = |body: &str| run_on(body, &schedule).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(of(&body(wait, 512, store)), (0..128).chain((0..128).map(first)).collect::<Vec<_>>());
        assert_eq!(of(&body(wait, 512, reduce)), (0..128).map(first).chain(128..256).collect::<Vec<_>>());
        for wrong in
            [body("", 512, store), body(wait, 528, store), body(wait, 512, &store.replace("512", "520"))]
        {
            run_on(&wrong, &schedule).unwrap_err();
        }
    }
}
