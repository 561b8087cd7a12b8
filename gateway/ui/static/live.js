// What pages do again and again: look every so often, and draw only what is new, so that nobody loses their place.

/** A function that calls `act` the first time it is called, and every `times` times after that. */
export function every(times, act) {
  let rounds = 0;
  return () => {
    if (rounds % times === 0) act();
    rounds += 1;
  };
}

/** A function that says whether a value is another one than the last time. */
export function differs() {
  let before;
  return (value) => {
    const now = JSON.stringify(value);
    const other = now !== before;
    before = now;
    return other;
  };
}
