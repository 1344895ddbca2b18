"""What the report calls and nobody else, the hand-in, and checks of students' work."""
