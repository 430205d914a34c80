#!/usr/bin/env bash
# Makes assets/sample-lesson.flv: 16 s of H.264/AAC that loops without a jump, in picture, sound
# and timestamps. Everything in it comes from ffmpeg's own test sources, so it is ours to give
# away. Needs ffmpeg with libx264 and DejaVu Sans (Debian: ffmpeg, fonts-dejavu-core).
#
# Why 16 s: 400 pictures at 25/s, 750 AAC frames of 1024 samples at 48 kHz, and whole periods of
# every movement and tone. The sound is cut out of the middle of three rounds, so that the
# encoder's start-up silence is not in it.
set -euo pipefail
cd "$(dirname "$0")"
font=${FONT:-/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A board with colour bars, a disc on a circle (one round in 8 s), a bar that fills once a round
# and a second counter.
ffmpeg -hide_banner -loglevel error -y \
  -f lavfi -i "color=c=0x16324f:s=640x360:r=25:d=16" \
  -f lavfi -i "smptehdbars=s=176x99:r=25:d=16" \
  -f lavfi -i "color=c=0xf2c14e:s=36x36:r=25:d=16,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*lte(hypot(X-17.5,Y-17.5),17)'" \
  -f lavfi -i "color=c=0x4da1a9:s=640x10:r=25:d=16" \
  -filter_complex "
    [0][1]overlay=x=430:y=36[a];
    [a][2]overlay=x='190+110*cos(2*PI*t/8)':y='190+70*sin(2*PI*t/8)'[b];
    [b][3]overlay=x='-640+640*t/16':y=350[c];
    [c]drawtext=fontfile=$font:text='Longspan sample lesson':fontcolor=white:fontsize=26:x=32:y=30,
       drawtext=fontfile=$font:text='%{eif\\:mod(t\\,16)\\:d\\:2}':fontcolor=white:fontsize=64:x=478:y=200,format=yuv420p[v]" \
  -map '[v]' -t 16 -c:v libx264 -profile:v high -preset veryslow -tune zerolatency -threads 1 \
  -g 50 -keyint_min 50 -sc_threshold 0 -crf 24 -maxrate 320k -bufsize 320k "$tmp/video.mp4"

# A tone with a short beep each second.
ffmpeg -hide_banner -loglevel error -y -f lavfi -i "sine=frequency=220:beep_factor=4:sample_rate=48000:d=48" \
  -af "volume=0.35" -ac 1 -c:a aac -b:a 48k "$tmp/three.m4a"
ffmpeg -hide_banner -loglevel error -y -ss 16 -i "$tmp/three.m4a" -map 0:a -c copy -frames:a 750 \
  -bsf:a "setts=pts=N*1024:dts=N*1024" "$tmp/audio.m4a"

ffmpeg -hide_banner -loglevel error -y -i "$tmp/video.mp4" -i "$tmp/audio.m4a" -map 0:v -map 1:a -c copy \
  -bitexact -map_metadata -1 -flvflags no_duration_filesize -f flv sample-lesson.flv
ls -l sample-lesson.flv
