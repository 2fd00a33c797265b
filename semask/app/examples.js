// The photographs in the package: a click tells the server which.
element.querySelectorAll("button").forEach((button, index) => {
  button.addEventListener("click", () => trigger("click", { index }));
});
