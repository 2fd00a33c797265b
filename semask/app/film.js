// The overlaid film. Text of others is only ever set as text.
const find = (name) => element.querySelector(name);

function show() {
  const data = props.value ? JSON.parse(props.value) : {}, video = find("video");
  find(".hint").hidden = Boolean(props.value);
  find(".error").hidden = !data.error;
  find(".error").textContent = data.error || "";
  find(".result").hidden = !data.path;
  if (!data.path) {
    video.removeAttribute("src");
    video.load();
    return;
  }
  const address = "gradio_api/file=" + encodeURI(data.path).replace(/[?#]/g, encodeURIComponent);
  find("h2").textContent = data.model;
  video.src = address;
  video.setAttribute("aria-label", "The film with the classes of " + data.model + " over it");
  find(".readout").textContent = [data.frames + (data.frames === 1 ? " frame is" : " frames are") + " segmented.", ...data.said].join(" ");
  find(".download").href = address;
  find(".download").download = data.name;
  find(".shares").replaceChildren(...data.classes.map(([name, share]) => {
    const row = document.createElement("li");
    row.textContent = name + ": " + (100 * share).toFixed(1) + " %";
    return row;
  }));
}
watch("value", show);
show();
