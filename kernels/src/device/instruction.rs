//! How the wrappers of instructions are written.

/// Defines instructions, each by its documentation, its signature and its inline PTX.
///
/// `#[track_caller]` marks what speaks for its caller: reports of the strict machine name the line that calls
/// it.
macro_rules! instructions {
    ($($(#[$attr:meta])*
    $vis:vis unsafe fn $name:ident $(<const $g:ident: $gt:ty>)? ($($args:tt)*) $(-> $ret:ty)?
    $body:block)*) => {$(
        $(#[$attr])*
        #[inline(always)]
        #[track_caller]
        $vis unsafe fn $name $(<const $g: $gt>)? ($($args)*) $(-> $ret)? {
            // SAFETY: the caller keeps the contract of `# Safety`, which is the manual's.
            unsafe { $body }
        }
    )*};
}
pub(super) use instructions;
