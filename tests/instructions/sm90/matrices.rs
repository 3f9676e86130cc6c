//! `stmatrix`, fragments as in PTX ISA, "stmatrix".

use rand::seq::SliceRandom as _;

use crate::{inputs, launch::check};

const ITEMS: usize = 12;
const WARP: usize = 32;

#[test]
fn stmatrix_x4() {
    let mut rng = inputs::generator(1);
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for item in 0..ITEMS {
        let registers = inputs::words(2 * WARP * 4, item as u64);
        let mut rows = Vec::new();
        for registers in registers.chunks(4 * WARP) {
            let mut order: Vec<u32> = (0..WARP as u32).collect();
            order.shuffle(&mut rng);
            // Lane 8 i + r names where row r of matrix i goes. Register i of lane l is elements 2 (l mod 4)
            // and the next, which are one word, of row l / 4.
            let mut memory = [0; 4 * WARP];
            for (number, &to) in order.iter().enumerate() {
                let (matrix, row) = (number / 8, number % 8);
                for word in 0..4 {
                    memory[4 * to as usize + word] = registers[4 * (4 * row + word) + matrix];
                }
            }
            expected.extend(memory);
            rows.extend(order);
        }
        input.extend(registers);
        input.extend(rows);
    }
    check("stmatrix_x4", ITEMS, &input, &expected);
}
