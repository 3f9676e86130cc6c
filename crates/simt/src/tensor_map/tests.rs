use super::*;

/// A matrix of 100 columns and 50 rows, 208 bytes apart.
fn map(box_dims: [u32; 2], swizzle: Swizzle) -> TensorMap {
    let map = TensorMap { address: 1 << 32, dims: [100, 50], stride: 208, box_dims, swizzle };
    map.check().unwrap();
    map
}

/// The tables of PTX ISA, "Swizzling Modes": which chunk of each line of 128 bytes lies at its eight places.
#[test]
fn swizzles_as_the_manual_draws_them() {
    let lines_128 = [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 0, 3, 2, 5, 4, 7, 6],
        [2, 3, 0, 1, 6, 7, 4, 5],
        [3, 2, 1, 0, 7, 6, 5, 4],
        [4, 5, 6, 7, 0, 1, 2, 3],
        [5, 4, 7, 6, 1, 0, 3, 2],
        [6, 7, 4, 5, 2, 3, 0, 1],
        [7, 6, 5, 4, 3, 2, 1, 0],
    ];
    for (swizzle, columns, lines) in [
        (Swizzle::B128, 64, &lines_128[..]),
        (Swizzle::B64, 32, &lines_128[..4]),
        (Swizzle::B32, 16, &lines_128[..2]),
        (Swizzle::None, 64, &lines_128[..1]),
    ] {
        let map = map([columns, 16 * 64 / columns], swizzle);
        let mut found = [[None; 8]; 16];
        for (i, chunk) in map.tensor().chunks(&[0, 0], 0x400).enumerate() {
            let place = (chunk.shared - 0x400) as usize / 16;
            assert_eq!(chunk.shared % 16, 0);
            assert_eq!(found[place / 8][place % 8].replace(i), None);
        }
        for (line, places) in found.iter().enumerate() {
            let expected = lines[line % lines.len()].map(|chunk: usize| Some(8 * line + chunk));
            assert_eq!(places, &expected, "{swizzle:?}, line {line}");
        }
    }
}

#[test]
fn the_phase_of_a_swizzle_is_that_of_the_address() {
    // A box that begins in the third line of a pattern: chunk 0 lies where line 2 has it.
    let first = map([64, 8], Swizzle::B128).tensor().chunks(&[0, 0], 0x400 + 0x100).next().unwrap();
    assert_eq!(first.shared, 0x400 + 0x120);
    let second_row = map([64, 8], Swizzle::B128).tensor().chunks(&[0, 0], 0x400 + 0x100).nth(8).unwrap();
    assert_eq!(second_row.shared, 0x400 + 0x180 + 0x30);
}

/// What a load would place, chunk by chunk: for each element of the box the global element, if in bounds.
fn loaded(map: &TensorMap, at: [i32; 2]) -> Vec<Option<(u64, u64)>> {
    let mut elements = vec![None; map.box_bytes() as usize / 2];
    for (i, chunk) in map.tensor().chunks(&at, 0).enumerate() {
        assert!(chunk.skip % 2 == 0 && chunk.bytes % 2 == 0 && chunk.skip + chunk.bytes <= 16);
        assert_eq!(chunk.global.is_some(), chunk.bytes > 0);
        let Some(global) = chunk.global else { continue };
        for byte in (0..chunk.bytes).step_by(2) {
            let from = global + u64::from(byte) - map.address;
            let to = 8 * i + (chunk.skip + byte) as usize / 2;
            elements[to] = Some((from % map.stride / 2, from / map.stride));
        }
    }
    elements
}

#[test]
fn elements_out_of_bounds_on_any_side_are_left_out() {
    for swizzle in [Swizzle::None, Swizzle::B32] {
        let map = map([16, 8], swizzle);
        for column in [i32::MIN, -17, -16, -15, -8, -3, -1, 0, 1, 5, 83, 84, 85, 92, 99, 100, 101, i32::MAX] {
            for row in [i32::MIN, -8, -7, -1, 0, 1, 41, 42, 43, 49, 50, 51, i32::MAX] {
                let elements = loaded(&map, [column, row]);
                for (i, element) in elements.into_iter().enumerate() {
                    let (x, y) = (i64::from(column) + i as i64 % 16, i64::from(row) + i as i64 / 16);
                    let inside = (0..100).contains(&x) && (0..50).contains(&y);
                    let expected = inside.then_some((x as u64, y as u64));
                    assert_eq!(element, expected, "{swizzle:?} at {column}, {row}: element {i}");
                }
            }
        }
    }
}

#[test]
fn a_box_may_be_wider_and_higher_than_the_matrix() {
    let map = TensorMap { dims: [3, 2], ..map([16, 4], Swizzle::B32) };
    map.check().unwrap();
    assert_eq!(map.box_bytes(), 16 * 4 * 2);
    let elements = loaded(&map, [-1, -1]);
    let inside: Vec<_> = elements.iter().enumerate().filter_map(|(i, at)| at.map(|at| (i, at))).collect();
    let row = |first: usize, y| [(first, (0, y)), (first + 1, (1, y)), (first + 2, (2, y))];
    assert_eq!(inside, [row(17, 0), row(33, 1)].concat());
}

#[test]
fn what_the_driver_refuses() {
    let good = map([64, 8], Swizzle::B128);
    let bad = [
        (TensorMap { address: (1 << 32) + 8, ..good }, "multiple of 16"),
        (TensorMap { dims: [0, 50], ..good }, "0 columns"),
        (TensorMap { dims: [100, 0], ..good }, "0 rows"),
        (TensorMap { dims: [(1 << 32) + 1, 50], ..good }, "2^32"),
        (TensorMap { stride: 200, ..good }, "200 bytes"),
        (TensorMap { stride: 1 << 40, ..good }, "2^40"),
        (TensorMap { address: u64::MAX - 15, ..good }, "address space"),
        (TensorMap { box_dims: [64, 0], ..good }, "0 rows"),
        (TensorMap { box_dims: [64, 257], ..good }, "257 rows"),
        (TensorMap { box_dims: [264, 8], swizzle: Swizzle::None, ..good }, "264 columns"),
        (TensorMap { box_dims: [12, 8], swizzle: Swizzle::None, ..good }, "24 bytes"),
        (TensorMap { box_dims: [72, 8], ..good }, "144 bytes"),
        (TensorMap { box_dims: [64, 8], swizzle: Swizzle::B64, ..good }, "128 bytes"),
        (TensorMap { box_dims: [32, 8], swizzle: Swizzle::B32, ..good }, "64 bytes"),
        // Not the driver, this machine.
        (TensorMap { box_dims: [32, 8], ..good }, "64 bytes"),
    ];
    for (map, reason) in bad {
        let refused = map.check().unwrap_err();
        assert!(refused.contains(reason), "{refused}: not about {reason}");
        assert_eq!(Tensor::decode(&map.encode()), Err(refused));
    }
    // Rows that overlap are no error of the driver's, nor are rows that are longer than the stride.
    TensorMap { stride: 16, ..good }.check().unwrap();
    TensorMap { dims: [1 << 32, 1], ..good }.check().unwrap();
    TensorMap { box_dims: [256, 256], swizzle: Swizzle::None, ..good }.check().unwrap();
}

#[test]
fn encoded_maps_decode_and_nothing_else_does() {
    for swizzle in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
        let columns = if swizzle == Swizzle::None { 256 } else { swizzle.span() / 2 };
        let map = map([columns, 256], swizzle);
        let words = map.encode();
        assert_eq!(Tensor::decode(&words), Ok(map.tensor()));
        for bit in 0..16 * 64 {
            let mut changed = words;
            changed[bit / 64] ^= 1 << (bit % 64);
            Tensor::decode(&changed).unwrap_err();
        }
    }
    assert!(Tensor::decode(&[0; 16]).is_err() && Tensor::decode(&[u64::MAX; 16]).is_err());
}
