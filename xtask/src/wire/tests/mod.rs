//! From frames to ladders, and from a raw socket to frames.

mod drawn;
mod frames;
mod live;
mod parsed;
mod read;
