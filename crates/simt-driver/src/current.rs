//! Which context is current to the calling thread: the top of its stack.

use std::cell::RefCell;

use crate::code::Handle;

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The current context, if there is one.
pub(crate) fn get() -> Option<Handle> {
    STACK.with_borrow(|stack| stack.last().copied())
}

/// Makes another one current in place of it; none pops it.
pub(crate) fn set(context: Option<Handle>) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        stack.extend(context);
    });
}

pub(crate) fn push(context: Handle) {
    STACK.with_borrow_mut(|stack| stack.push(context));
}

pub(crate) fn pop() -> Option<Handle> {
    STACK.with_borrow_mut(Vec::pop)
}
