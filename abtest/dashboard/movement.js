// Who would move: of units looked at, from which variant to which.

import { h, table } from "./dom.js";
import { count, percent } from "./format.js";

/** Moves as a table, or a sentence where there are none. */
export function movement({ units, changed, moves }, context) {
  const where = Object.entries(context).map(([field, value]) => `${field} ${value}`).join(", ");
  const told = `Of ${count(units)} users tried${where && ` with ${where}`}, ${changed ? `${count(changed)} (${percent(changed / units, { decimals: 1 })})` : "none"} would get other parameters.`;
  if (!moves.length) return [h("p", null, told), h("p", { class: "soft small" }, "Nobody enters, leaves or changes a variant.")];
  return [
    h("p", null, told),
    table("Who would move", [{ title: "Experiment" }, { title: "From" }, { title: "To" }, { title: "Users", number: true }],
      moves.map((move) => [move.key, move.before ?? none("nothing"), move.after ?? none("nothing"), count(move.units)]), { class: "moves" }),
  ];
}

const none = (text) => h("span", { class: "soft" }, text);
