//! From frames to ladders, and from a packet socket to frames.

mod drawn;
mod frames;
mod live;
mod parsed;
mod read;
