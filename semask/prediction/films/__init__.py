"""Films: frames are segmented one after another, their label maps kept, and an overlay encoded from both."""
