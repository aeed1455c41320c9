package privsep

// ParseLevel is the inverse of Level.String; what it does not know is LevelInfo.
func ParseLevel(s string) Level {
	for l, name := range levelNames {
		if name == s {
			return Level(l)
		}
	}
	return LevelInfo
}
