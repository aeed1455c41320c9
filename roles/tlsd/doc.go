package tlsd
